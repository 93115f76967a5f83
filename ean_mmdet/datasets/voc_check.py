"""Faults of VOC lists and annotations, named by file and field, and which objects MMDetection leaves out."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

from mmengine.fileio import list_from_file

from ..errors import InputError
from .coco_check import FILTERED, UNKNOWN


def explain_list(file: Path, dataset: object, split: str, hint: str) -> None:
    """See that a list of images has a file of annotations for each of its lines, as MMDetection reads them.

    Raises:
        InputError: A line has no annotations: it is blank, or has more than a name, or the file isn't there.
    """
    lines = list_from_file(str(file))
    folder = Path(dataset.sub_data_root, dataset.ann_subdir)  # type: ignore[attr-defined]
    missing = {number: line for number, line in enumerate(lines, 1) if not (folder / f'{line}.xml').is_file()}
    if not missing:
        return
    for number, line in missing.items():
        name = (line.split() or [''])[0]
        if line != name and (not name or (folder / f'{name}.xml').is_file()):
            what = f'is {line!r}, and MMDetection takes the whole line, blanks included, for the name {name!r}'
        elif line.startswith('\ufeff'):
            what = (
                'starts with a byte-order mark, which MMDetection takes for a part of the name; save the list as '
                'UTF-8 without one'
            )
        elif not line:
            what = 'is blank, which MMDetection takes for the name of an image'
        else:
            continue
        raise InputError(
            f'{split} data: line {number} of {file} {what}; {len(missing)} of its {len(lines)} lines are no names of '
            f'annotations. A list has one name a line, and nothing else'
        )
    first = folder / f'{next(iter(missing.values()))}.xml'
    raise InputError(
        f'{split} data: {len(missing)} of the {len(lines)} annotations that {file} lists are missing, the first of '
        f'them {first}; {hint}'
    )


def _number(text: str) -> None:
    if not math.isfinite(float(text)):
        raise ValueError


# What MMDetection reads of a file, and of each object in it.
SIZES: dict[str, Callable] = {'width': int, 'height': int}
FIELDS: dict[str, Callable] = {
    'name': str,
    'difficult': int,
    **{f'bndbox/{side}': _number for side in ('xmin', 'ymin', 'xmax', 'ymax')},
}


def explain_xml(path: Path, error: Exception) -> str:
    """Name the field of an annotation that MMDetection can't read."""
    try:
        root = ElementTree.parse(path).getroot()
    except FileNotFoundError:
        return f'{path} is missing'
    except (ElementTree.ParseError, OSError, ValueError) as damage:
        return f'{path} is no valid VOC annotation, perhaps truncated: {damage}'
    size = root.find('size')
    wrong = _wrong_fields(size, SIZES, 'size/') if size is not None else []
    for number, box in enumerate(root.iter('object'), 1):
        # MMDetection does without <difficult>
        fields = {key: read for key, read in FIELDS.items() if key != 'difficult' or box.find(key) is not None}
        wrong += _wrong_fields(box, fields, f'object {number}/')
    reason = '; '.join(wrong) or f'{type(error).__name__}: {error}'
    return f'{path} is no valid VOC annotation: {reason}'


def _wrong_fields(element: ElementTree.Element, fields: dict[str, Callable], where: str) -> list[str]:
    wrong = []
    for key, read in fields.items():
        found = element.find(key)
        text = None if found is None else found.text
        if found is None:
            wrong.append(f'{where}{key} is missing')
        elif text is None or not text.strip():
            wrong.append(f'{where}{key} is empty')
        else:
            try:
                read(text)
            except ValueError:
                wrong.append(f'{where}{key} is {text!r}, not a {"whole " if read is int else ""}number')
    return wrong


def read_objects(path: Path) -> tuple[list[str], list[bool]]:
    """The names of a file's objects, and which of them are marked as difficult."""
    boxes = ElementTree.parse(path).getroot().findall('object')
    difficult = [box.findtext('difficult') or '0' for box in boxes]
    return [box.findtext('name', '') for box in boxes], [bool(int(float(text))) for text in difficult]


def lost_objects(loaded: list[dict], kept: list[dict], classes: tuple[str, ...]) -> tuple[int, Counter, dict, Counter]:
    """Count the files' objects, why some aren't kept with examples, and each name."""
    lost: Counter[str] = Counter()
    examples: dict[str, str] = {}
    found: Counter[str] = Counter()
    remaining = {id(info) for info in kept}
    for info in loaded:
        path = Path(info['xml_path'])
        names, difficult = read_objects(path)
        found.update(names)
        reasons = []
        if id(info) not in remaining:
            reasons = [FILTERED] * len(names)
        else:
            flags = [instance.get('ignore_flag', 0) for instance in info['instances']]
            known = [hard for name, hard in zip(names, difficult) if name in classes]
            reasons = [UNKNOWN] * (len(names) - len(known))
            reasons += [
                'marked as difficult' if hard else 'smaller than bbox_min_size'
                for hard, flag in zip(known, flags)
                if flag
            ]
        for reason in reasons:
            lost[reason] += 1
            examples.setdefault(reason, str(path))
    return sum(found.values()), lost, examples, found
