"""What is wrong in a COCO annotation file, counted by kind with an example each.

MMDetection leaves out without a word what it can't use, and takes without a word what makes a run wrong.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..errors import InputError


def read_coco(file: Path, split: str) -> dict:
    """The content of an annotation file.

    Raises:
        InputError: It is no JSON, or lacks images, categories or what they have to have.
    """
    raw = file.read_bytes()
    if raw.startswith(b'\xef\xbb\xbf'):
        raise InputError(
            f'{split} data: {file} starts with a byte-order mark, which pycocotools cannot read; save it as UTF-8 '
            f'without one'
        )
    try:
        content = json.loads(raw)
    except ValueError as error:
        raise InputError(f'{split} data: {file} is no valid JSON, perhaps truncated: {error}') from error
    lacking = {'images', 'categories'} - set(content) if isinstance(content, dict) else {'images', 'categories'}
    if lacking:
        raise InputError(f'{split} data: {file} is no COCO annotation file: it lacks {" and ".join(sorted(lacking))}')
    for kind in ('images', 'categories', 'annotations'):
        entries = content.get(kind, [])
        if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
            raise InputError(f'{split} data: {file}: its {kind} must be a list of objects, got {str(entries)[:120]}')
        for entry in entries if kind != 'annotations' else ():  # of which find_problems gives the counts
            absent = [key for key in REQUIRED[kind] if key not in entry]
            if absent:
                raise InputError(
                    f'{split} data: {file}: an entry of its {kind} lacks {", ".join(absent)}: {str(entry)[:120]}'
                )
            wrong = _wrong_types(kind, entry)
            if wrong:
                raise InputError(f'{split} data: {file}: in an entry of its {kind}, {wrong}: {str(entry)[:120]}')
    return content


def _is_id(value: object) -> bool:
    return isinstance(value, (int, str)) and not isinstance(value, bool)


def _is_size(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _is_name(value: object) -> bool:
    return isinstance(value, str)


# The keys that an entry must have and, of these and others, what their values must be.
REQUIRED: dict[str, dict[str, Callable | None]] = {
    'images': dict(id=_is_id, file_name=_is_name, width=_is_size, height=_is_size),
    'categories': dict(id=_is_id, name=_is_name),
    'annotations': dict(id=_is_id, image_id=_is_id, category_id=_is_id, bbox=None, area=_is_number),
}
OPTIONAL: dict[str, dict[str, Callable | None]] = {'annotations': dict(iscrowd=lambda value: value in (0, 1))}
MEANT: dict[Callable | None, str] = {
    _is_id: 'a whole number or a string', _is_size: 'a whole number from 1 on', _is_name: 'a string',
    _is_number: 'a number',
}  # fmt: skip


def _wrong_types(kind: str, entry: dict) -> str | None:
    """The keys of an entry whose values are of a wrong type."""
    checks = {**REQUIRED[kind], **OPTIONAL.get(kind, {})}
    wrong = [key for key, check in checks.items() if check is not None and key in entry and not check(entry[key])]
    return ', '.join(f'{key} is not {MEANT.get(checks[key], "0 or 1")}' for key in wrong) or None


def find_problems(content: dict, evaluated: bool = False) -> tuple[Counter, Counter, dict[str, str]]:
    """Errors and warnings by kind, how many of each, and an example by kind.

    Errors would make a run wrong; what is only warned of MMDetection leaves out, and nothing else changes.

    Args:
        content: The annotation file's, see :func:`read_coco`.
        evaluated: Whether it is to evaluate on, for which pycocotools needs ``iscrowd``. Defaults to False.
    """
    errors: Counter[str] = Counter()
    warnings: Counter[str] = Counter()
    examples: dict[str, Any] = {}

    def note(where: Counter, kind: str, example: object) -> None:
        where[kind] += 1
        examples.setdefault(kind, str(example)[:160])

    images: dict[Any, dict] = {}
    for image in content['images']:
        if image['id'] in images:
            note(errors, 'image ids given twice', f'{image["id"]}: {images[image["id"]]} and {image["file_name"]}')
        images[image['id']] = image['file_name']
    categories = {category['id'] for category in content['categories']}
    seen = set()
    for box in content.get('annotations', ()):
        absent = [key for key in (*REQUIRED['annotations'], *['iscrowd'] * evaluated) if key not in box]
        wrong = _wrong_types('annotations', box)
        if absent or wrong:
            note(errors, f'annotations without {" and ".join(absent)}' if absent else f'annotations whose {wrong}', box)
            continue
        if box['id'] in seen:
            note(errors, 'annotation ids given twice', box['id'])
        seen.add(box['id'])
        if box['image_id'] not in images:
            note(warnings, 'annotations of images that it does not list', f'annotation {box["id"]}')
            continue
        where = f'annotation {box["id"]} of {images[box["image_id"]]}'
        if box['category_id'] not in categories:
            note(warnings, 'annotations of categories that it does not list', f'{where}: {box["category_id"]}')
        values = box['bbox']
        if not isinstance(values, list) or not all(map(_is_number, values)) or len(values) != 4:
            note(errors, 'boxes that are not four numbers', f'{where}: {values}')
        elif not all(map(math.isfinite, values)):
            note(errors, 'boxes with NaN or infinity', f'{where}: {values}')
        elif values[2] < 0 or values[3] < 0:
            note(warnings, 'boxes of negative width or height', f'{where}: {values}')
        elif values[2] < 1 or values[3] < 1:
            note(warnings, 'boxes of less than a pixel in width or height', f'{where}: {values}')
    return errors, warnings, examples


def wrong_sizes(content: dict, sizes: dict[str, tuple[int, int]]) -> list[str]:
    """Images whose width and height aren't those that the annotations say, which cuts boxes off."""
    return [
        f'{image["file_name"]} is {sizes[image["file_name"]][0]} × {sizes[image["file_name"]][1]}, not '
        f'{image["width"]} × {image["height"]}'
        for image in content['images']
        # turned by its EXIF orientation, it is the other way round
        if sorted(sizes[image['file_name']]) != sorted((image['width'], image['height']))
    ]


def counted(problems: Counter, examples: dict[str, str]) -> str:
    """The problems in a sentence."""
    return '; '.join(f'{count} {kind} ({examples[kind]})' for kind, count in problems.items())
