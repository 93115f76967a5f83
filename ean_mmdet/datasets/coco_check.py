"""Faults of a COCO annotation file, and what MMDetection leaves out of it, by kind with an example each.

MMDetection leaves out without a word what it can't use, and takes without a word what makes a run wrong.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import InputError

# Why boxes are left out on purpose.
FILTERED = 'in images that filter_cfg leaves out'
UNKNOWN = 'of classes that the config does not have'


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
    check_entries(content, f'{split} data: {file}')
    return content


def check_entries(content: Any, where: str) -> None:
    """See that an annotation file has images and categories, and each of them what it has to have.

    Args:
        content: The file's.
        where: The file, for messages.

    Raises:
        InputError: It doesn't.
    """
    lacking = {'images', 'categories'} - set(content) if isinstance(content, dict) else {'images', 'categories'}
    if lacking:
        raise InputError(f'{where} is no COCO annotation file: it lacks {" and ".join(sorted(lacking))}')
    for kind in ('images', 'categories', 'annotations'):
        entries = content.get(kind, [])
        others = [e for e in entries if not isinstance(e, dict)][:1] if isinstance(entries, list) else entries
        if others != []:
            raise InputError(f'{where}: its {kind} must be a list of objects, got {str(others)[:120]}')
        for entry in entries if kind != 'annotations' else ():  # of which find_errors gives the counts
            absent = [key for key in REQUIRED[kind] if key not in entry]
            if absent:
                raise InputError(f'{where}: an entry of its {kind} lacks {", ".join(absent)}: {str(entry)[:120]}')
            wrong = _wrong_types(kind, entry)
            if wrong:
                raise InputError(f'{where}: in an entry of its {kind}, {wrong}: {str(entry)[:120]}')


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


def explain_coco(file: Path, split: str, evaluated: bool) -> None:
    """Say what is wrong with an annotation file that can't be read; nothing where it looks right.

    Raises:
        InputError: What is wrong.
    """
    content = read_coco(file, split)
    if any('segments_info' in entry for entry in content.get('annotations', ())[:1]):
        return  # a panoptic file's entries are images'
    errors, examples = find_errors(content, evaluated)
    if errors:
        raise InputError(f'{split} data: {file} has {counted(errors, examples)}')


def find_errors(content: dict, evaluated: bool = False) -> tuple[Counter, dict[str, str]]:
    """Count what would make a run wrong or stop it, by kind, with an example of each.

    Args:
        content: The annotation file's, see :func:`read_coco`.
        evaluated: Whether it is to evaluate on, for which pycocotools needs ``iscrowd``. Defaults to False.
    """
    errors: Counter[str] = Counter()
    examples: dict[str, str] = {}

    def note(kind: str, example: object) -> None:
        errors[kind] += 1
        examples.setdefault(kind, str(example)[:160])

    images: dict[Any, str] = {}
    for image in content['images']:
        if image['id'] in images:
            note('image ids given twice', f'{image["id"]}: {images[image["id"]]} and {image.get("file_name")}')
        images[image['id']] = image.get('file_name')
    annotations = content.get('annotations', [])
    if _all_right(annotations, evaluated):
        return errors, examples
    seen = set()
    for box in annotations:
        absent = [key for key in (*REQUIRED['annotations'], *['iscrowd'] * evaluated) if key not in box]
        wrong = _wrong_types('annotations', box)
        if absent or wrong:
            note(f'annotations without {" and ".join(absent)}' if absent else f'annotations whose {wrong}', box)
            continue
        if box['id'] in seen:
            note('annotation ids given twice', box['id'])
        seen.add(box['id'])
        where = f'annotation {box["id"]} of {images.get(box["image_id"])}'
        values = box['bbox']
        if not isinstance(values, list) or not all(map(_is_number, values)) or len(values) != 4:
            note('boxes that are not four numbers', f'{where}: {values}')
        elif not all(map(math.isfinite, values)):
            note('boxes with NaN or infinity', f'{where}: {values}')
    return errors, examples


def _all_right(annotations: list[dict], evaluated: bool) -> bool:
    """Tell whether nothing is wrong with any annotation, which takes a tenth of the time of saying what is."""
    numbers, ids = {int, float}, {int, str}
    kinds: dict[str, set] = dict(id=ids, image_id=ids, category_id=ids, area=numbers, bbox={list})
    try:
        if not all({type(box[key]) for box in annotations} <= kind for key, kind in kinds.items()):
            return False
        crowds = {box['iscrowd'] if evaluated else box.get('iscrowd', 0) for box in annotations}
        boxes = [box['bbox'] for box in annotations]
        return (
            crowds <= {0, 1}
            and len({box['id'] for box in annotations}) == len(annotations)
            and {len(box) for box in boxes} <= {4}
            and {type(value) for box in boxes for value in box} <= numbers
            and bool(np.isfinite(np.array(boxes, dtype=float)).all())
        )
    except (KeyError, TypeError, OverflowError):
        return False


def lost_boxes(
    content: dict, by_image: dict, loaded: list[dict], kept: list[dict], labels: dict, parse: Callable[[dict], dict]
) -> tuple[Counter, dict[str, str]]:
    """Why boxes of the file aren't among those that MMDetection trains on: how many by reason, and examples.

    Args:
        content: The annotation file's.
        by_image: Its annotations by the ids of images, as pycocotools groups them.
        loaded: What the data set made of the file.
        kept: What its filter left of that.
        labels: The label that the data set gives each category.
        parse: The data set's ``parse_data_info``, which decides.
    """
    lost: Counter[str] = Counter()
    examples: dict[str, str] = {}

    def note(reason: str, box: dict, image: dict) -> None:
        lost[reason] += 1
        if reason not in examples:
            examples[reason] = f'annotation {box["id"]} of {image.get("file_name", image["id"])}: {box["bbox"]}'

    images = {image['id']: image for image in content['images']}
    known = {category['id'] for category in content['categories']}
    remaining = {id(info) for info in kept}
    seen = set()
    for info in loaded:
        boxes, image = by_image.get(info['img_id'], ()), images[info['img_id']]
        seen.add(info['img_id'])
        if not boxes:
            continue
        if id(info) not in remaining:
            for box in boxes:
                note(FILTERED, box, image)
            continue
        flags = [instance.get('ignore_flag', 0) for instance in info.get('instances', ())]
        if len(flags) == len(boxes) and not any(flags):
            continue
        for box in boxes:
            alone = parse(dict(raw_img_info=dict(image, img_id=image['id']), raw_ann_info=[box]))['instances']
            if not alone:
                note(_reason(box, image, labels, known), box, image)
            elif alone[0].get('ignore_flag'):
                note('crowds (iscrowd: 1)', box, image)
    for image_id, boxes in by_image.items():
        if image_id not in seen:
            for box in boxes:
                note('annotations of images that it does not list', box, images.get(image_id, dict(id=image_id)))
    return lost, examples


def _reason(box: dict, image: dict, labels: dict, known: set) -> str:
    """Why MMDetection leaves a box out; the first that applies."""
    x, y, width, height = box['bbox']
    if box.get('ignore'):
        return 'marked ignore'
    if box['category_id'] not in known:
        return 'annotations of categories that it does not list'
    if box['category_id'] not in labels:
        return UNKNOWN
    if width < 0 or height < 0:
        return 'boxes of negative width or height'
    if width < 1 or height < 1:
        return 'boxes of less than a pixel in width or height'
    if box['area'] <= 0:
        return 'with an area of 0'
    if x >= image['width'] or y >= image['height'] or x + width <= 0 or y + height <= 0:
        return 'off their image'
    return 'left out by the data set itself'


# Shares of a file's boxes from which they are taken to be in another format.
BEYOND, CORNERS, FRACTIONS = 0.3, 0.95, 0.95


def other_format(content: dict) -> str | None:
    """Guess what boxes are that aren't x, y, width, height in pixels; None where they look right."""
    sides = {image['id']: (image['width'], image['height']) for image in content['images']}
    annotations = [box for box in content.get('annotations', ()) if box['image_id'] in sides]
    if not annotations:
        return None
    boxes = np.array([box['bbox'] for box in annotations], dtype=float)
    size = np.array([sides[box['image_id']] for box in annotations], dtype=float)
    if ((boxes <= 1).all(axis=1) & (boxes >= 0).all(axis=1)).mean() >= FRACTIONS:
        return (
            "its boxes seem to be fractions of the image's width and height, and COCO's are in pixels: multiply x and "
            'width by the width, y and height by the height'
        )
    beyond = (boxes[:, :2] + boxes[:, 2:] > size + 1).any(axis=1).mean()
    corners = ((boxes[:, 2:] > boxes[:, :2]) & (boxes[:, 2:] <= size + 1)).all(axis=1).mean()
    if beyond >= BEYOND and corners >= CORNERS:
        return (
            f'{beyond:.0%} of its boxes reach beyond their image and {corners:.0%} would be right as x1, y1, x2, y2, '
            f"but COCO's are x, y, width, height: write x2 - x1 and y2 - y1 in the last two places"
        )
    return None


def label_names(content: dict, labels: dict, classes: Sequence[str], file: Path, split: str) -> None:
    """See that the name of a category in the file is the one that its label has in the config.

    Args:
        content: The annotation file's.
        labels: The label that the data set, or the evaluator, gives each category id.
        classes: The config's classes.
        file: The annotation file, for messages.
        split: The split, for messages.

    Raises:
        InputError: A label has another name, or a name is given to two categories.
    """
    names: dict[str, list] = {}
    for category in content['categories']:
        names.setdefault(category['name'], []).append(category['id'])
    used = Counter(box.get('category_id') for box in content.get('annotations', ()))
    for name in classes:
        ids = names.get(name, [])
        if len(ids) > 1:
            empty = [str(number) for number in ids if not used[number]]
            advice = (
                f'No annotation has {" or ".join(empty)}, a super-category perhaps: take it out of the file'
                if 0 < len(empty) < len(ids)
                else 'Give each a name of its own, or the annotations one id'
            )
            raise InputError(
                f'{split} data: {file} gives the name {name!r} to {len(ids)} categories, ids '
                f'{", ".join(map(str, ids))}, which shifts the labels of all others. {advice}'
            )
    wrong = []
    for category in content['categories']:
        label, name = labels.get(category['id']), category['name']
        if label is None or name not in classes:
            continue
        printed = classes[label] if label < len(classes) else 'background'
        if printed != name:
            wrong.append(f'{name!r} becomes label {label}, {printed!r}')
    if wrong:
        order = tuple(name for name in names if name in classes)
        raise InputError(
            f'{split} data: {file} lists its categories in another order than the classes of the config, so that '
            f'{", ".join(wrong[:3])}{" …" if len(wrong) > 3 else ""}. MMDetection goes by the order of the file: set '
            f"metainfo=dict(classes={order!r}) in train, val and test alike, or put the file's categories (ids and "
            f"all) in the config's order: {tuple(classes)!r}"
        )


def counted(problems: Counter, examples: dict[str, str]) -> str:
    """The problems in a sentence."""
    return '; '.join(f'{count} {kind} ({examples[kind]})' for kind, count in problems.items())
