"""YOLO's format in a folder, with or without ``data.yaml``, as a COCO file: globox turns the fractions into pixels.

globox fails on blank lines and on outlines, and takes a sixth number in a row for one of the box. So rows are read
here, with their file and line in an error, and globox is given their boxes.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from ..datasets.images import describe_problems, inspect_images
from ..errors import InputError
from ..files import IMAGE_SUFFIXES, find_images, read_text
from .found import ROLES, Found, Options, names_in, role_of
from .parts import CLASS_FILES, CocoPart, Part, files_below, folders_below, listed

NOT_LABELS = (*CLASS_FILES, 'readme.txt', 'license.txt', 'requirements.txt')
BEYOND = 0.01  # of the image that a box may reach over its edge, by rounding


def yolo_files(folder: Path, options: Options) -> list[Path]:
    """The files that say that it is YOLO's: ``data.yaml``, or else a few of the labels."""
    given = [path for path in options.annotations if path.suffix in ('.yaml', '.yml')]
    if given:
        return given
    found = [path for path in files_below(folder, ('.yaml', '.yml'), 2) if _has_names(path)]
    return (
        found
        or [path for place in folders_below(folder) for path in sorted(place.glob('*.txt'))[:20] if _is_label(path)][:3]
    )


def _has_names(path: Path) -> bool:
    try:
        return 'names' in _yaml(path)
    except InputError:  # which is said where the file is used
        return re.search(rb'(?m)^names\s*:', path.read_bytes()) is not None


def _yaml(path: Path) -> dict:
    try:
        content = yaml.safe_load(read_text(path))
    except yaml.YAMLError as error:
        raise InputError(f'{path} is no valid YAML: {" ".join(str(error).split())}') from error
    return content if isinstance(content, dict) else {}


def _is_label(path: Path) -> bool:
    if path.name.lower() in NOT_LABELS:
        return False
    with path.open(encoding='utf-8', errors='replace') as file:
        row = next((line.split() for line in file if line.strip()), [])
    try:
        return (
            len(row) >= 5 and all(math.isfinite(float(value)) for value in row) and float(row[0]) == int(float(row[0]))
        )
    except ValueError:
        return False


def find_yolo(folder: Path, options: Options) -> Found:
    """Read YOLO's labels in a folder, as COCO's.

    Raises:
        InputError: The classes have no names, a row is wrong, or an image is damaged.
    """
    notes: list[str] = []
    settings = [path for path in yolo_files(folder, options) if path.suffix in ('.yaml', '.yml')]
    if len(settings) > 1:
        raise InputError(
            f'{folder} has {len(settings)} files with names of classes, {listed(settings)}: name the one to use, '
            f'--annotations {settings[0]}'
        )
    content = _yaml(settings[0]) if settings else {}
    if settings and 'names' not in content:
        raise InputError(f'{settings[0]} has no names: of its classes, a list in the order of their numbers')
    images = _listed_images(settings[0], content, folder, notes) if settings else {}
    images = images or _images_by_split(folder, options)
    images = {name: [path for path in paths if path.suffix.lower() in IMAGE_SUFFIXES] for name, paths in images.items()}
    sizes = inspect_images(path for paths in images.values() for path in paths)
    problem = describe_problems(sizes, str(folder))
    if problem:
        raise InputError(problem)
    values = _keypoints(content)
    rows = {path: _rows(_label_file(path), values, notes) for paths in images.values() for path in paths}
    classes, source = _classes(folder, options, settings, content, rows)
    _check_numbers(rows, classes, source)
    _note_labels(folder, images, rows, notes)
    parts: dict[str, Part] = {}
    for name, paths in images.items():
        part_rows = {path: (sizes[path], rows[path]) for path in paths}
        parts[name] = CocoPart(name, _as_coco(part_rows, classes, folder), folder)
    return Found(folder, 'yolo', parts, classes, source, list(dict.fromkeys(notes)))


def _listed_images(settings: Path, content: dict, folder: Path, notes: list[str]) -> dict[str, list[Path]]:
    """The images of each split that a ``data.yaml`` names, by the rule of YOLO's trainers."""
    images = {}
    for role in ROLES:
        value = content.get(role) or content.get({'val': 'valid', 'test': 'testing', 'train': 'training'}[role])
        if not value:
            continue
        entries = value if isinstance(value, list) else [value]
        if not all(isinstance(entry, str) for entry in entries):
            raise InputError(f'{settings}: its {role} split must be a folder or a list of folders, got {value!r}')
        places = [_resolve(settings, content, entry) for entry in entries]
        missing = [entry for entry, place in zip(entries, places) if place is None]
        if missing and role == 'test':
            notes.append(f'{settings.name}: its test split {missing[0]!r} is not there and is left out')
            continue
        if missing:
            raise InputError(
                f'{settings}: its {role} split {missing[0]!r} is not there, looked for below {settings.parent}. Put it '
                f'right in the file, or leave its train, val and test out: folders are then found by their names'
            )
        paths = [path for place in places if place for path in _images_at(place)]
        images[role] = list(dict.fromkeys(paths))
    if images.get('val') and images['val'] == images.get('train'):
        notes.append(f'{settings.name}: val is train, so it is judged on the images that it learns')
    return images


def _resolve(settings: Path, content: dict, value: str) -> Path | None:
    """Find the folder of a split: Roboflow writes ``../train/images`` for a folder beside the file."""
    bases = [settings.parent / str(content.get('path') or ''), settings.parent]
    relative = value
    while relative.startswith('../'):
        relative = relative[3:]
    candidates = [base / text for base in bases for text in (value, relative)]
    return next((place for place in candidates if place.exists()), None)


def _images_at(place: Path) -> list[Path]:
    if place.is_file():  # a list
        lines = names_in(place)
        return [Path(line) if Path(line).is_absolute() else place.parent / line for line in lines]
    try:
        return find_images(place)
    except InputError:
        return []


def _images_by_split(folder: Path, options: Options) -> dict[str, list[Path]]:
    """The images that have labels, by the split that their folders' names say."""
    root = options.images or folder
    splits: dict[str, list[Path]] = {}
    for path in find_images(root):
        places = path.relative_to(root).parts[:-1]
        if 'labels' in places:
            continue
        name = next((place for place in places if role_of(place)), 'all')
        splits.setdefault(name, []).append(path)
    # an image without a label is one without objects; a folder in which none has one is no part of the data
    return {name: paths for name, paths in splits.items() if any(_label_file(path).is_file() for path in paths)}


def _label_file(image: Path) -> Path:
    """An image's label: ``images`` in its path becomes ``labels``, the last time; or it lies beside the image."""
    parts = list(image.parts)
    if 'images' in parts[:-1]:
        place = len(parts) - 2 - parts[:-1][::-1].index('images')
        label = Path(*parts[:place], 'labels', *parts[place + 1 :]).with_suffix('.txt')
        if label.is_file():
            return label
    return image.with_suffix('.txt')


def _keypoints(content: dict) -> int:
    """Count the numbers of a row that are key points'."""
    shape = content.get('kpt_shape') or [0, 0]
    return math.prod(shape)


def _rows(path: Path, keypoints: int, notes: list[str]) -> list[tuple[int, list[float], int]]:
    """The class, box (centre, width and height in fractions) and line of each row of a label file.

    Raises:
        InputError: A row is neither a box nor an outline; names file and line.
    """
    found: list[tuple[int, list[float], int]] = []
    if not path.is_file():
        return found
    for number, line in enumerate(read_text(path).splitlines(), 1):
        words = line.split()
        if not words:
            continue
        try:
            values = [float(word) for word in words]
        except ValueError:
            values = []
        if len(values) < 5 or not all(map(math.isfinite, values)) or values[0] != int(values[0]) or values[0] < 0:
            raise InputError(
                f"{path}, line {number}: {line[:80]!r} is no row of YOLO's: a class's number, and x, y, width and "
                f'height in fractions of the image'
            )
        box = _box(values, keypoints, notes, f'{path}, line {number}')
        found.append((int(values[0]), box, number))
    return found


def _box(values: list[float], keypoints: int, notes: list[str], where: str) -> list[float]:
    rest = values[1:]
    if keypoints and len(rest) == 4 + keypoints:
        notes.append('rows with key points: their boxes are used')
        rest = rest[:4]
    elif len(rest) == 5:
        notes.append('rows with a sixth number, a score or a track: it is left out')
        rest = rest[:4]
    elif len(rest) > 5:
        notes.append('rows with outlines: the boxes around them are used')
        rest = rest[: len(rest) // 2 * 2]
        xs, ys = rest[::2], rest[1::2]
        rest = [(min(xs) + max(xs)) / 2, (min(ys) + max(ys)) / 2, max(xs) - min(xs), max(ys) - min(ys)]
    x, y, width, height = rest
    low, high = min(x - width / 2, y - height / 2), max(x + width / 2, y + height / 2)
    if width < 0 or height < 0 or low < -BEYOND or high > 1 + BEYOND:
        pixels = max(rest) > 2
        raise InputError(
            f'{where}: the box {" ".join(f"{value:g}" for value in rest)} reaches beyond the image'
            + (
                ", and seems to be in pixels: YOLO's are in fractions of the image, divide x and width by its width, y "
                'and height by its height'
                if pixels
                else ": YOLO's are the centre, width and height in fractions of the image, 0 to 1"
            )
        )
    return rest


def _classes(
    folder: Path, options: Options, settings: list[Path], content: dict, rows: dict
) -> tuple[tuple[str, ...], str]:
    """The names of the classes in the order of their numbers, and where they are from."""
    if options.classes:
        return options.classes, '--classes'
    sources: dict[str, tuple[str, ...]] = {}
    if content:
        sources[settings[0].name] = _names(content['names'], settings[0])
    places = (folder, folder / 'labels', folder / 'images')
    for path in (place / name for place in places for name in CLASS_FILES):
        if path.is_file():
            sources[path.name] = names_in(path)
    notes = folder / 'notes.json'  # Label Studio's
    if notes.is_file():
        try:
            categories = sorted(json.loads(read_text(notes))['categories'], key=lambda category: category['id'])
            sources['notes.json'] = tuple(category['name'] for category in categories)
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(
                f"{notes} is not Label Studio's, with the names of the classes: {error!r}. Rename it, or give the "
                f'names with --classes'
            ) from error
    if len(set(sources.values())) > 1:
        raise InputError(
            f'{folder} names its classes differently: '
            + '; '.join(f'{name} has {listed(names)}' for name, names in sources.items())
            + '. Name them in the order of their numbers: --classes NAME …'
        )
    if sources:
        source, names = next(iter(sources.items()))
        return names, source
    highest = max((number for found in rows.values() for number, _, _ in found), default=-1)
    raise InputError(
        f"{folder} has YOLO's labels with the classes 0 to {highest}, and neither data.yaml nor classes.txt with their "
        f'names. Name them in the order of their numbers: --classes NAME …, {highest + 1} names'
    )


def _names(names: Any, path: Path) -> tuple[str, ...]:
    if isinstance(names, dict):
        try:
            numbers = {int(key): str(name) for key, name in names.items()}
        except (TypeError, ValueError):
            numbers = {}
        if sorted(numbers) != list(range(len(names))):
            raise InputError(
                f'{path}: names must number its classes from 0 on without a gap, got {listed(list(names))}'
            )
        return tuple(numbers[number] for number in range(len(numbers)))
    if not isinstance(names, list):
        raise InputError(f'{path}: names must be a list of the classes, got {names!r}')
    return tuple(str(name) for name in names)


def _check_numbers(rows: dict, classes: Sequence[str], source: str) -> None:
    for path, found in rows.items():
        for number, _, line in found:
            if number >= len(classes):
                raise InputError(
                    f'{_label_file(path)}, line {line}: class {number}, but {source} has {len(classes)} names, so the '
                    f'highest is {len(classes) - 1}'
                )


def _note_labels(folder: Path, images: dict[str, list[Path]], rows: dict, notes: list[str]) -> None:
    """Take note of images without boxes, and refuse labels that no image has."""
    every = [path for paths in images.values() for path in paths]
    missing = [path for path in every if not _label_file(path).is_file()]
    empty = len([path for path in every if not rows[path]]) - len(missing)
    if missing:
        notes.append(
            f'{len(missing)} images have no label file, such as {missing[0].name}: taken for images without objects'
        )
    if empty:
        notes.append(f'{empty} images have an empty label file: images without objects')
    used = {_label_file(path) for path in every}
    strays = [
        path for place in dict.fromkeys(label.parent for label in used)
        if place.is_dir() for path in sorted(place.glob('*.txt')) if path not in used and _is_label(path)
    ]  # fmt: skip
    if strays:
        known = Counter(path.suffix for path in every).most_common(1)[0][0]
        notes.append(
            f'{len(strays)} label files have no image and are left out, such as {strays[0].name} '
            f'(no {strays[0].stem}{known})'
        )


def _as_coco(rows: dict, classes: Sequence[str], folder: Path) -> dict:
    """The content of a COCO file, by globox."""
    try:
        from globox import Annotation, AnnotationSet, BoundingBox, BoxFormat
    except ImportError as error:
        raise InputError(
            f"YOLO's labels are converted by globox, which is not here: pip install globox ({error})"
        ) from None
    annotations = AnnotationSet()
    for path, (size, found) in rows.items():
        boxes = [
            BoundingBox.create(
                label=str(number), coords=tuple(box), box_format=BoxFormat.XYWH, relative=True, image_size=size[:2]
            )
            for number, box, _ in found
        ]
        annotations.add(Annotation(_relative(path, folder), tuple(size[:2]), boxes))
    content = annotations.to_coco(
        label_to_id={str(number): number for number in range(len(classes))},
        imageid_to_id={_relative(path, folder): number for number, path in enumerate(rows)},
    )
    for category in content['categories']:
        category['name'] = classes[category['id']]
    return content


def _relative(path: Path, folder: Path) -> str:
    return str(path.relative_to(folder)) if path.is_relative_to(folder) else str(path)
