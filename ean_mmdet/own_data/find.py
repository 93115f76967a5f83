"""Finder of what a folder holds: in which format its boxes are, its splits, and the classes in their order."""

from __future__ import annotations

import json
from pathlib import Path

from ..errors import InputError
from ..files import find_images
from .coco_files import coco_files, find_coco
from .found import ROLES, Found, Options, role_of
from .parts import Part, files_below, listed
from .voc_files import find_voc, voc_files
from .yolo_files import find_yolo, yolo_files


def find(folder: Path, options: Options | None = None) -> Found:
    """Find out what a folder of images and annotations holds.

    Args:
        folder: The folder; nothing in it is changed.
        options: What it doesn't say. Defaults to None, nothing.

    Raises:
        InputError: There is nothing to train a detector on; or more than one way to read it, and then the message has
            the candidates and the option that settles it.
    """
    options = options or Options()
    if not folder.is_dir():
        raise InputError(f'DATA must be a folder, got {folder}, which is {"a file" if folder.exists() else "missing"}')
    finders = dict(coco=(coco_files, find_coco), voc=(voc_files, find_voc), yolo=(yolo_files, find_yolo))
    there = {name: look(folder, options) for name, (look, _) in finders.items()}
    formats = [name for name, files in there.items() if files]
    if options.format:
        if options.format not in formats:
            raise InputError(f'--format {options.format}: {_nothing(folder, formats)}')
        formats = [options.format]
    if not formats:
        raise InputError(_nothing(folder, []))
    if len(formats) > 1:
        raise InputError(
            f'{folder} has annotations in {len(formats)} formats: '
            + '; '.join(f'{name} ({listed([_below(path, folder) for path in there[name]], 2)})' for name in formats)
            + f'. Say which to use: {" or ".join(f"--format {name}" for name in formats)}'
        )
    found = finders[formats[0]][1](folder, options)
    empty = [name for name, part in found.parts.items() if not part.names()]
    for name in empty:
        found.notes.append(f'the split {name} has no images and is left out')
        del found.parts[name]
    if not found.parts:
        raise InputError(f'{folder}: its {found.format} annotations list no images')
    _check_classes(found, options)
    return found


def _below(path: Path, folder: Path) -> Path:
    return path.relative_to(folder) if path.is_relative_to(folder) else path


def _nothing(folder: Path, formats: list[str]) -> str:
    """Why nothing of a kind was found, and what there is instead."""
    if formats:
        return f'{folder} has annotations in the format {" and ".join(formats)} alone'
    try:
        images = len(find_images(folder))
    except InputError:
        images = 0
    hints = [hint for path in files_below(folder, ('.json', '.csv', '.xml')) if (hint := _other_format(path))]
    text = f'{folder} has {images} images and no annotations in COCO, VOC or YOLO format'
    if hints:
        text += f'; but {hints[0]}'
    return text + (
        '. They are a COCO .json (images, annotations, categories), .xml files of VOC, or .txt files of YOLO with rows '
        "'class x y width height' in fractions of the image; annotation tools such as Label Studio, CVAT and Roboflow "
        'export each of these'
    )


def _other_format(path: Path) -> str | None:
    """Say what an annotation file is that isn't of a format known here."""
    if path.suffix == '.csv':
        return f'{path} is a table'
    try:
        content = json.loads(path.read_bytes())
    except (ValueError, OSError):
        return f'{path} is damaged' if path.suffix == '.json' else None
    first = content[0] if isinstance(content, list) and content and isinstance(content[0], dict) else {}
    if 'data' in first and 'annotations' in first:
        return f"{path} is Label Studio's own JSON: export as COCO or YOLO there"
    if 'image' in first and 'annotations' in first:
        return f"{path} is CreateML's"
    if {'image_id', 'bbox', 'score'} <= set(first):
        return f'{path} is a list of COCO results, which are predictions'
    if isinstance(content, dict) and 'shapes' in content:
        return f"{path} is labelme's, one file an image: labelme2coco converts them"
    if isinstance(content, dict) and 'images' in content and 'annotations' in content:
        return f'{path} has images and annotations, but no categories: captions perhaps'
    return None


def _check_classes(found: Found, options: Options) -> None:
    if not found.classes:
        raise InputError(f'{found.folder}: there is not one box in its annotations, so there are no classes to learn')
    twice = sorted({name for name in found.classes if found.classes.count(name) > 1})
    if twice:
        raise InputError(
            f'{found.folder}: the class {twice[0]!r} is there twice by {found.order}, and each has to have a name of '
            f'its own: give the names with --classes'
        )
    if any(not name.strip() for name in found.classes):
        raise InputError(f'{found.folder}: a class has no name by {found.order}: give the names with --classes')


def assign_roles(found: Found, options: Options) -> dict[str, Part]:
    """Choose the split to train on, to validate on and to test on.

    VOC's convention holds where its lists overlap: with a test list, ``trainval`` is trained on.

    Returns:
        A part for each of ``'train'``, ``'val'`` and ``'test'``; ``'train'`` alone where there is one split, to be
        divided.

    Raises:
        InputError: Names don't tell, or two splits claim one role.
    """
    names = list(found.parts)
    if options.splits:
        return _given(found, options.splits)
    if len(names) == 1:
        return dict(train=found.parts[names[0]])
    roles: dict[str, list[str]] = {}
    for name in names:
        roles.setdefault(role_of(name) or '?', []).append(name)
    if 'trainval' in roles and ('test' in roles or 'train' not in roles):
        overlapping = [name for role in ('train', 'val') for name in roles.pop(role, [])]
        roles['train'] = roles.pop('trainval')
        if overlapping:
            found.notes.append(
                f'trained on {roles["train"][0]}, judged on {listed(roles.get("test", []))}, by the custom of VOC; '
                f'{" and ".join(overlapping)}, of which it is made, can be chosen with --splits'
            )
    roles.pop('trainval', None)
    several = {role: claimed for role, claimed in roles.items() if len(claimed) > 1}
    if '?' in roles or several or 'train' not in roles:
        claims = '; '.join(f'{role}: {" and ".join(claimed)}' for role, claimed in several.items() if role != '?')
        raise InputError(
            f'{found.folder} has the splits {listed(names)}, and their names do not tell which to train on and which '
            f'to judge on{f" ({claims})" if claims else ""}. Say it: --splits train={names[0]} val={names[-1]}'
        )
    assigned = {role: found.parts[roles[role][0]] for role in ROLES if role in roles}
    return _completed(found, assigned)


def _given(found: Found, splits: dict[str, str]) -> dict[str, Part]:
    for role, name in splits.items():
        if role not in ROLES:
            raise InputError(f'--splits {role}={name}: a role is train, val or test')
        if name not in found.parts:
            raise InputError(f'--splits {role}={name}: {found.folder} has the splits {listed(list(found.parts))}')
    if 'train' not in splits:
        raise InputError('--splits must say what to train on: train=NAME')
    assigned = {role: found.parts[splits[role]] for role in ROLES if role in splits}
    unused = [name for name in found.parts if name not in splits.values()]
    if unused:
        found.notes.append(f'the split{"s" if len(unused) > 1 else ""} {listed(unused)} of the data is not used')
    return _completed(found, assigned) if len(assigned) > 1 else assigned


def _completed(found: Found, assigned: dict[str, Part]) -> dict[str, Part]:
    if 'val' not in assigned:
        assigned['val'] = assigned['test']
        found.notes.append(f'there is no validation split: {assigned["test"].name} is used for validation too')
    assigned.setdefault('test', assigned['val'])
    return {role: assigned[role] for role in ROLES}
