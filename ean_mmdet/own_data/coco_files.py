"""COCO's format in a folder: Roboflow's ``_annotations.coco.json``, Label Studio's, COCO's own folders."""

from __future__ import annotations

import contextlib
import json
import re
from collections import Counter
from pathlib import Path

from ..datasets.coco_check import check_entries, counted, find_errors
from ..errors import InputError
from ..files import find_images, has_mark
from .found import Found, Options, role_of
from .parts import CocoPart, files_below, folders_below, listed

KEYS = ('images', 'annotations', 'categories')
# COCO's other annotations of the same images.
OTHERS = ('person_keypoints', 'stuff', 'panoptic', 'captions', 'image_info')
LOOKED_AT = 200  # image names that are looked for to find their folder


def coco_files(folder: Path, options: Options) -> list[Path]:
    """The annotation files."""
    given = [path for path in options.annotations if path.suffix == '.json']
    if given:
        return given
    files = [path for path in files_below(folder, ('.json',)) if _is_coco(path)]
    instances = [path for path in files if path.stem.startswith('instances')]
    return (
        instances if instances and all(path in instances or path.stem.startswith(OTHERS) for path in files) else files
    )


def _is_coco(path: Path) -> bool:
    data = path.read_bytes()
    return all(b'"%s"' % key.encode() in data for key in KEYS)


def find_coco(folder: Path, options: Options) -> Found:
    """Read COCO files in a folder.

    Raises:
        InputError: A file isn't COCO's, or its images can't be found.
    """
    notes: list[str] = []
    files = coco_files(folder, options)
    loaded = {path: _load(path) for path in files}
    parts: dict[str, CocoPart] = {}
    for path, content in loaded.items():
        name = _name(path, files, folder)
        if name in parts:
            raise InputError(
                f'{folder} has two annotation files for the split {name}: {listed(files)}. Name those to use: '
                f'--annotations {path}'
            )
        parts[name] = _part(name, path, content, folder, options, notes)
    order = [category for part in parts.values() for category in part.class_names()]
    first = next((part for name, part in parts.items() if role_of(name) in ('train', 'trainval')), None)
    order = [*(first.class_names() if first else []), *order]
    classes = tuple(dict.fromkeys(order)) if len(parts) > 1 else tuple(order)
    if options.classes:
        unknown = [name for name in options.classes if name not in classes]
        if unknown:
            raise InputError(f'--classes {unknown[0]}: the annotations have {listed(classes, 20)}')
        left = [name for name in classes if name not in options.classes]
        if left:
            notes.append(f'{len(left)} classes are left out by --classes: {listed(left)}')
        classes = options.classes
    parts = {name: part.ordered(classes) for name, part in parts.items()}
    for part in parts.values():
        notes += part.notes
    source = '--classes' if options.classes else f'the categories of {files[0].name}'
    return Found(folder, 'coco', dict(parts), classes, source, notes)


def _load(path: Path) -> dict:
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise InputError(f'{path} cannot be read as JSON: {error}') from error
    check_entries(content, str(path))
    content.setdefault('annotations', [])
    return content


def _name(path: Path, files: list[Path], folder: Path) -> str:
    """A split's name: that of its folder as Roboflow has it, or of the file."""
    if len(files) == 1:
        return path.parent.name if path.parent != folder and role_of(path.parent.name) else path.stem
    stems = Counter(file.stem for file in files)
    return path.stem if stems[path.stem] == 1 else str(path.parent.relative_to(folder))


def _part(name: str, path: Path, content: dict, folder: Path, options: Options, notes: list[str]) -> CocoPart:
    part = CocoPart(name, content, folder, None if has_mark(path) else path)
    _complete(part)
    errors, examples = find_errors(part.content, evaluated=True)
    if errors:
        raise InputError(f'{path} has {counted(errors, examples)}')
    _leave_out_root(part)
    _find_images(part, path, folder, options)
    images = {image['id'] for image in content['images']}
    strays = sum(box['image_id'] not in images for box in content['annotations'])
    if strays:
        notes.append(f'{path.name}: {strays} boxes are of images that it does not list; MMDetection leaves them out')
    return part


def _leave_out_root(part: CocoPart) -> None:
    """Leave out Roboflow's first category: the project's name, the super-category of all others, without a box.

    MMDetection takes names: where a class is called like the project, both would be one, and labels shift.
    """
    categories = part.content['categories']
    used = Counter(box.get('category_id') for box in part.content['annotations'])
    for root in categories:
        others = [category for category in categories if category is not root]
        if others and not used[root['id']] and all(c.get('supercategory') == root['name'] for c in others):
            part.content = dict(part.content, categories=others)
            part.notes.append(
                f'{part.name}: the category {root["name"]!r} without a box is the super-category of all others; it is '
                f'no class'
            )
            # without its name among the classes MMDetection passes it over; with it, it would take it for the class
            if root['name'] in [category['name'] for category in others]:
                part.file = None
            return


def _complete(part: CocoPart) -> None:
    """Fill in what pycocotools needs and some exports lack, in a copy."""
    boxes = part.content['annotations']
    lacking = [key for key in ('iscrowd', 'area', 'id') if any(key not in box for box in boxes)]
    if not lacking:
        return
    filled = []
    for number, box in enumerate(boxes, 1):
        try:
            _, _, width, height = map(float, box['bbox'])
        except (KeyError, TypeError, ValueError):  # find_errors says so
            width = height = 0
        area = width * height
        filled.append({'id': number, 'iscrowd': 0, 'area': area, **box})
    if 'id' in lacking:
        for number, box in enumerate(filled, 1):
            box['id'] = number
    part.content, part.file = dict(part.content, annotations=filled), None
    part.notes.append(f'{part.name}: its annotations lack {" and ".join(lacking)}, filled in in a copy')


def _find_images(part: CocoPart, path: Path, folder: Path, options: Options) -> None:
    """Find the folder where the images' names begin; names of another machine are found by their last part."""
    names = part.names()
    looked = names[:LOOKED_AT]
    words = [word for word in (path.stem.rpartition('_')[2], part.name) if word]
    if options.images:
        candidates = [options.images, *(options.images / word for word in words)]
    else:
        near = [path.parent, path.parent / 'images', folder, folder / 'images', folder / 'JPEGImages']
        near += [base / word for word in words for base in (folder, folder / 'images', path.parent)]
        candidates = [*near, *folders_below(folder)]
    best = max(dict.fromkeys(candidates), key=lambda base: sum((base / name).is_file() for name in looked))
    if not looked or any((best / name).is_file() for name in looked):
        part.folder = best
        return
    root = options.images or folder
    by_name: dict[str, list[Path]] = {}
    with contextlib.suppress(InputError):  # no image at all: said below
        for image in find_images(root):
            by_name.setdefault(image.name, []).append(image)
    lasts = [re.split(r'[/\\]', name)[-1] for name in names]
    several = [name for name in lasts if len(by_name.get(name, ())) > 1]
    if all(name in by_name for name in lasts) and not several and len(set(lasts)) == len(lasts):
        images = [
            dict(image, file_name=str(by_name[name][0].relative_to(root)))
            for image, name in zip(part.content['images'], lasts)
        ]
        part.content, part.folder, part.file = dict(part.content, images=images), root, None
        part.notes.append(f'{part.name}: its names of images, such as {names[0]!r}, are found by their last part')
        return
    missing = [name for name in lasts if name not in by_name]
    folders = sorted({str(image[0].parent) for image in by_name.values()})
    raise InputError(
        f'{path} lists {len(names)} images, and {len(missing) or len(several)} of them are '
        f'{"nowhere below" if missing else "more than once below"} {root}, such as {(missing or several)[0]!r}. Name '
        f'their folder: --images FOLDER' + (f' (images are in {listed(folders, 4)})' if folders else '')
    )
