"""Checks a config's data before a run: each data set is built as MMDetection builds it, and what it holds is looked at.

MMDetection leaves out boxes that it can't use, numbers classes by the order of a file, and meets an image that isn't
there when its turn comes. This says so at once. What it can't look at it names: :class:`Checked` has ``unchecked``.
"""

from __future__ import annotations

import contextlib
import gc
import io
import json
import os
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmdet.datasets import CocoDataset, XMLDataset
from mmdet.datasets.api_wrappers import COCO
from mmengine.config import Config
from mmengine.registry import DATASETS

from ..errors import InputError, near_names
from .boxes_check import check_boxes
from .coco_check import (
    counted,
    find_errors,
    label_names,
    lost_boxes,
    other_format,
)
from .config_parts import (
    as_list,
    dataset_classes,
    datasets_of,
    type_class,
    type_name,
)
from .evaluator_check import check_evaluators, reads_a_file, reads_crowds
from .held import Held, frames, hold, is_local, tell
from .images_check import check_images
from .masks_check import check_masks
from .num_classes_check import check_num_classes, reads_names
from .voc_check import FILTERED, UNKNOWN, lost_objects

USE = dict(train='train on', val='validate on', test='evaluate on')
# Left out on purpose, by the annotations or the config.
EXPECTED = (
    'crowds (iscrowd: 1)',
    'marked as difficult',
    'smaller than bbox_min_size',
    UNKNOWN,
    FILTERED,
)
LARGE = 20e6  # bytes of an annotation file from which reading it takes a while


@dataclass
class Checked:
    """Findings on one data set: how many images and boxes are used of how many, and what wasn't checked."""

    kind: str
    images: int = 0
    boxes: int = 0
    kept: int = 0
    unchecked: list[str] = field(default_factory=list)


def check_data(config: Config, splits: tuple[str, ...] = ('train', 'val'), decode: bool = False) -> dict[str, list]:
    """Check the data sets of a config and the evaluators that go with them.

    Args:
        config: The whole config.
        splits: Which of ``train``, ``val`` and ``test`` to check. Defaults to ``('train', 'val')``.
        decode: Whether to decode every image, and not read its header alone. Defaults to False.

    Returns:
        A list of :class:`Checked` for each split that the config has.

    Raises:
        InputError: A file or an image is missing or damaged, a label would have another class's name, nothing is left
            to train or evaluate on, or an evaluator has other data than its data set.
    """
    with _no_collection():
        return {split: _check_split(config, split, decode) for split in splits if config.get(f'{split}_dataloader')}


@contextlib.contextmanager
def _no_collection() -> Iterator[None]:
    """Without Python's search for cycles, which takes half the time where millions of objects are made and kept."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()


def _check_split(config: Config, split: str, decode: bool) -> list[Checked]:
    evaluators = as_list(config.get(f'{split}_evaluator')) if split != 'train' else []
    writes_only = bool(evaluators) and all(part.get('format_only') for part in evaluators)
    found, held = [], []
    for part in datasets_of(config, split):
        checked, one = _check_dataset(config, part, split, decode, writes_only)
        found.append(checked)
        held += [one] if one else []
    with_boxes = [one for one in held if _has_boxes(one)]
    if with_boxes and not writes_only and not any(checked.kept for checked in found):
        files = ' and '.join(dict.fromkeys(str(one.file) for one in with_boxes))
        raise InputError(f'{split} data: {files} has no annotations, so there is nothing to {USE[split]}')
    for one in held:
        _check_same_classes(config, one)
        check_num_classes(config, one)
    if held and evaluators:
        found[0].unchecked += check_evaluators(config, held, evaluators, split)
    for checked in found:
        for line in checked.unchecked:
            print(f'not checked: {split} data: {line}', file=sys.stderr, flush=True)
    return found


def _check_dataset(
    config: Config, part: dict, split: str, decode: bool, writes_only: bool
) -> tuple[Checked, Held | None]:
    kind = type_name(part)
    if not is_local(part):
        return Checked(kind, unchecked=[f'{kind}, which is not on a disk of this machine']), None
    if _is_classification(config, part):
        check = _check_class_folders if kind in ('ImageNet', 'CustomDataset') else None
        if check:
            check(part, split)
        return Checked(kind, unchecked=[f'the images of {kind}' if check else kind]), None
    _announce(split, Path(part.get('data_root') or '', part.get('ann_file') or ''))
    held = hold(config, part, split)
    if held is None:
        return Checked(kind, unchecked=[f'{kind}, which is no data set of MMEngine']), None
    checked = Checked(kind, images=len(held.kept))
    if not held.loaded:
        raise InputError(f'{split} data: {held.file} lists no images')
    lost, examples = _check_annotations(config, held, checked, split, writes_only)
    if not held.kept:
        raise InputError(
            f'{split} data: filter_cfg leaves out all of the {len(held.loaded)} images of {held.file}'
            + (f': {counted(lost, examples)}' if lost else '')
        )
    sizes = check_images(part, held, checked.unchecked, split, decode)
    check_boxes(config, held, sizes, split)
    check_masks(config, part, held, sizes, checked.unchecked, split)
    if lost:
        chosen = checked.boxes - lost[UNKNOWN]  # the config's classes
        unusual = any(reason not in EXPECTED for reason in lost) or checked.kept < chosen / 2
        tell(
            'warning' if unusual else 'note',
            split,
            f'{held.file} has {checked.boxes} boxes, of which {checked.kept} are used. Of the others are '
            f'{counted(lost, examples)}; MMDetection leaves them out',
        )
    return checked, held


def _is_classification(config: Config, part: dict) -> bool:
    """Tell whether a data set is one of MMPretrain's, with a label an image."""
    kind = type_class(config, part, DATASETS)
    return any(base.__module__.startswith('mmpretrain.') for base in getattr(kind, '__mro__', ()))


def _check_annotations(
    config: Config, held: Held, checked: Checked, split: str, writes_only: bool
) -> tuple[Counter, dict[str, str]]:
    """See that labels have the names of the file, and that boxes are left; what is left out, and examples."""
    lost: Counter[str] = Counter()
    examples: dict[str, str] = {}
    checked.boxes = checked.kept = _usable(held)
    dataset, classes = held.dataset, held.classes
    if not _has_boxes(held):
        checked.unchecked.append(f'the annotations of {held.kind}')
    elif isinstance(dataset, XMLDataset) and classes is not None:
        checked.boxes, lost, examples, names = lost_objects(held.loaded, held.kept, classes)
        unknown = [name for name in names if name not in classes]
        # a class without a box is normal in a small set; one that differs in case or blanks alone is a wrong name
        spelt = {name.strip().lower() for name in unknown}
        misspelt = any(name.strip().lower() in spelt for name in classes if name not in names)
        if unknown and (not checked.kept or misspelt):
            raise class_error(split, held.file, classes, sorted(names))
        _note_unknown(unknown, examples)
    elif isinstance(dataset, CocoDataset) and classes is not None:
        content, by_image = _coco_content(held)
        if content is None:
            checked.unchecked.append(f'the annotation file of {held.kind} against what it holds')
        else:
            lost, examples = _check_coco(config, held, checked, split, writes_only, content, by_image)
    else:
        checked.unchecked.append(f'the annotation file of {held.kind} against what it holds')
    if lost and not checked.kept and not writes_only:
        raise InputError(
            f'{split} data: {held.file} has {checked.boxes} boxes, and none is left to {USE[split]}: '
            f'{counted(lost, examples)}'
        )
    return lost, examples


def _coco_content(held: Held) -> tuple[dict | None, dict]:
    """The annotation file and its annotations by image, as pycocotools reads it; None where it isn't COCO's."""
    if held.api is None:  # of a class that reads its file by itself
        if held.file.suffix != '.json':
            return None, {}
        content = json.loads(held.file.read_bytes())
        if not isinstance(content, dict) or not {'images', 'annotations', 'categories'} <= set(content):
            return None, {}
        held.api = COCO()
        held.api.dataset = content
        with contextlib.redirect_stdout(io.StringIO()):
            held.api.createIndex()
    return held.api.dataset, held.api.imgToAnns


def _check_coco(
    config: Config, held: Held, checked: Checked, split: str, writes_only: bool, content: dict, by_image: dict
) -> tuple[Counter, dict[str, str]]:
    classes = held.classes or ()
    panoptic = any('segments_info' in entry for entry in content.get('annotations', ())[:1])
    evaluators = as_list(config.get(f'{split}_evaluator')) if split != 'train' else []
    by_file = any(reads_a_file(config, part) for part in evaluators)
    if not panoptic:
        errors, examples = find_errors(content, any(reads_crowds(config, part) for part in evaluators))
        if errors:
            raise InputError(f'{split} data: {held.file} has {counted(errors, examples)}')
    labels = getattr(held.dataset, 'cat2label', None)
    labels = _labels_by_box(held, by_image) if labels is None and not panoptic else labels
    if labels is None:
        checked.unchecked.append(f'which label {held.kind} gives a category')
        labels = {}
    names = [category['name'] for category in content['categories']]
    absent = [name for name in classes if name not in names]
    unknown = [name for name in names if name not in classes]
    if absent and (unknown or len(absent) == len(classes)) and _shifted(content, labels, classes, absent):
        raise class_error(split, held.file, classes, names)
    label_names(content, labels, classes, held.file, split)
    if absent:
        tell('note', split, f'{held.file} has no category {short(absent)}')
    if panoptic:
        checked.unchecked.append(f'the segments of {held.kind}')
        return Counter(), {}
    annotations = content.get('annotations', ())
    checked.boxes = len(annotations)
    problem = other_format(content)
    if problem and not writes_only:
        raise InputError(f'{split} data: {held.file}: {problem}')
    try:
        lost, examples = lost_boxes(content, by_image, held.loaded, held.kept, labels, held.dataset.parse_data_info)
    except (AttributeError, KeyError, TypeError, ValueError):  # a class of the user's reads them in a way of its own
        checked.unchecked.append(f'why {held.kind} leaves out {checked.boxes - checked.kept} of {checked.boxes} boxes')
        lost, examples = Counter(), {}
    _note_unknown(unknown, examples)
    if by_file:  # the evaluator counts all but crowds
        known = {category for category in labels if labels[category] < len(classes)}
        images = {image['id'] for image in content['images']}
        checked.kept = sum(
            box['category_id'] in known and box['image_id'] in images and not box.get('iscrowd') for box in annotations
        )
    return lost, examples


def _note_unknown(unknown: list[str], examples: dict[str, str]) -> None:
    if UNKNOWN in examples:
        examples[UNKNOWN] = short(unknown)


def _labels_by_box(held: Held, by_image: dict) -> dict | None:
    """The label of each category id, by the boxes that are in the file and in what the data set made of it."""
    labels: dict[Any, int] = {}
    for info in held.loaded:
        boxes = by_image.get(info.get('img_id'), ())
        corners = [(x, y, x + width, y + height) for x, y, width, height in (box['bbox'] for box in boxes)]
        alone = {key for key, count in Counter(corners).items() if count == 1}  # not two classes in one place
        instances = {tuple(instance['bbox']): instance['bbox_label'] for instance in info['instances']}
        for box, key in zip(boxes, corners):
            if key in instances and key in alone:
                labels.setdefault(box['category_id'], instances[key])
    return labels or None


def _shifted(content: dict, labels: dict, classes: tuple[str, ...], absent: list[str]) -> bool:
    """Tell whether classes that a file lacks are wrong names: others are unknown, or labels are shifted."""
    names = {category['id']: category['name'] for category in content['categories']}
    right = all(names.get(number) == classes[label] for number, label in labels.items() if label < len(classes))
    used = {names.get(box.get('category_id')) for box in content.get('annotations', ())}
    return not labels or not right or bool(used - set(classes) - {None})


def _usable(held: Held) -> int:
    return sum(
        not instance.get('ignore_flag', 0) for info in frames(held.kept) for instance in info.get('instances', ())
    )


def _has_boxes(held: Held) -> bool:
    return any('instances' in info for info in frames(held.loaded[:20]))


def class_error(split: str, source: Path, classes: tuple[str, ...], found: list[str]) -> InputError:
    """Names of classes that aren't in the annotations, with those that are near."""
    absent = [name for name in classes if name not in found]
    near = {name: near_names(name, found, 1) for name in absent}
    hints = [f'{name!r} for {match[0]!r}' for name, match in near.items() if match]
    return InputError(
        f"{split} data: {source} has the classes {short(found)}, but the config's {short(absent)} "
        f'{"is" if len(absent) == 1 else "are"} not among them{" (" + ", ".join(hints[:3]) + "?)" if hints else ""}. '
        f'Set metainfo=dict(classes={tuple(dict.fromkeys(found))!r}) of the data set, the names in the annotations, '
        f'and num_classes of the head to their number; see docs/own_data.md'
    )


def short(names: Iterable[str]) -> str:
    """Names in quotes, the first six of them."""
    names = list(names)
    return ', '.join(map(repr, names[:6])) + (f' and {len(names) - 6} more' if len(names) > 6 else '')


def _check_same_classes(config: Config, held: Held) -> None:
    """See that a label means in one split what it means in training."""
    if held.split == 'train' or held.classes is None or reads_names(config, held):
        return
    for part in datasets_of(config, 'train'):
        kind = type_class(config, part, DATASETS)
        classes = dataset_classes(config, part) if kind else None
        if classes and set(classes) == set(held.classes) and classes != held.classes:
            raise InputError(
                f'{held.split} data: its classes are those of the training data in another order, so that labels have '
                f'other names: set metainfo=dict(classes={classes!r}) in train, val and test alike'
            )


def _announce(split: str, file: Path) -> None:
    if file.is_file() and file.stat().st_size > LARGE:
        print(f'{split} data: reading {file} ({file.stat().st_size / 1e6:.0f} MB)', file=sys.stderr, flush=True)


def _check_class_folders(dataset: dict, split: str) -> None:
    """MMPretrain's data sets with a folder of images per class; an annotation file stands for the folders."""
    root, prefix = dataset.get('data_root') or '', dataset.get('data_prefix') or dataset.get('split') or ''
    folder = Path(root, prefix if isinstance(prefix, str) else prefix.get('img_path', ''))
    annotations = Path(root, dataset.get('ann_file') or f'meta/{dataset.get("split", split)}.txt')
    if annotations.is_file():
        return
    if dataset.get('ann_file'):
        raise InputError(f'{split} data: no annotation file {annotations}; see docs/pretraining.md')
    if not folder.is_dir():
        raise InputError(
            f'{split} data: no folder {folder}. Put or link a folder of images per class there, or set data_root in '
            'the config; see docs/pretraining.md'
        )
    if not any(entry.is_dir() for entry in os.scandir(folder)):
        raise InputError(
            f'{split} data: {folder} has no folders of images per class, nor is there a list of its images with their '
            f'classes, {annotations}; see docs/pretraining.md'
        )
