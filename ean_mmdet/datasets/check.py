"""Checks a config's data before anything is built: files, classes, images.

mmdet ignores what doesn't fit: boxes of unknown classes are dropped, an image that isn't there fails when its turn
comes. This says so at once.
"""

from __future__ import annotations

import difflib
import math
import os
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

from mmdet.registry import DATASETS
from mmengine.config import Config
from mmengine.registry import DATASETS as ROOT_DATASETS

from ..errors import InputError
from .coco_check import counted, find_problems, read_coco, wrong_sizes
from .images import require_images

README_SECTION = "see 'Data' in README.md"


_USE = dict(train='train on', val='validate on', test='evaluate on')


def check_data(config: Config, splits: tuple[str, ...] = ('train', 'val'), decode: bool = False) -> None:
    """Check the data sets of a config: COCO and VOC format, and folders of images per class.

    Args:
        config: The whole config.
        splits: Which of ``train``, ``val`` and ``test`` to check. Defaults to ``('train', 'val')``.
        decode: Whether to decode every image, and not read its header alone. Defaults to False.

    Raises:
        InputError: A data root, annotation file or image is missing, an annotation file is damaged, its classes aren't
            the config's, or there is nothing to train on.
    """
    for split in splits:
        loader = config.get(f'{split}_dataloader')
        for dataset in _leaves(loader.dataset) if loader else ():
            kind = dataset['type']
            name = (kind if isinstance(kind, str) else kind.__name__).rsplit('.', 1)[-1]
            check = CHECKS.get(name)
            if check and _is_local(dataset) and (dataset.get('ann_file') or check is _check_class_folders):
                check(dataset, split, decode)
                if check is not _check_class_folders:
                    _check_num_classes(config, _classes(dataset), split)


def _leaves(dataset: dict) -> Iterator[dict]:
    """The data sets inside wrappers such as RepeatDataset and ConcatDataset."""
    inner = dataset.get('datasets') or ([dataset['dataset']] if 'dataset' in dataset else [])
    if not inner:
        yield dataset
    for part in inner:
        yield from _leaves(part)


def _is_local(dataset: dict) -> bool:
    backend = (dataset.get('backend_args') or {}).get('backend', 'local')
    return backend in ('local', 'disk') and '://' not in str(dataset.get('data_root'))


def config_classes(config: Config) -> tuple[str, ...]:
    """Names of the classes that a config's test data has."""
    dataset = next(_leaves(config.test_dataloader.dataset))
    with ROOT_DATASETS.switch_scope_and_registry(config.get('default_scope', 'mmdet')) as registry:
        kind = dataset['type']
        return _classes(dict(dataset, type=registry.get(kind) if isinstance(kind, str) else kind))


def _classes(dataset: dict) -> tuple[str, ...]:
    kind = dataset['type']
    defaults = (DATASETS.get(kind) if isinstance(kind, str) else kind).METAINFO
    classes = (dataset.get('metainfo') or {}).get('classes') or defaults['classes']
    if isinstance(classes, str):
        # mmengine reads a file of names, one a line
        classes = Path(classes).read_text().split('\n') if os.path.isfile(classes) else [classes]
        classes = [name.strip() for name in classes if name.strip()]
    if not isinstance(classes, (list, tuple)) or not all(isinstance(name, str) for name in classes):
        raise InputError(f'metainfo of {kind}: classes must be names, or the path of a file of names, got {classes!r}')
    return tuple(classes)


def _check_num_classes(config: Config, classes: tuple[str, ...], split: str) -> None:
    """See that the heads predict as many classes as the data set has. RPNs tell objects from background alone."""

    def heads(part: object) -> Iterator[tuple[str, int]]:
        if isinstance(part, dict):
            kind = str(part.get('type', ''))
            if kind.endswith('Head') and 'RPN' not in kind and isinstance(part.get('num_classes'), int):
                yield kind, part['num_classes']
            for value in part.values():
                yield from heads(value)
        elif isinstance(part, (list, tuple)):
            for value in part:
                yield from heads(value)

    for kind, number in heads(config.get('model')):
        if number != len(classes):
            raise InputError(
                f'{split} data: its data set has {len(classes)} classes ({_short(classes)}), and the model has a '
                f'{kind} with num_classes={number}; they must agree'
            )


def _annotation_file(dataset: dict, split: str) -> Path:
    root = dataset.get('data_root') or ''
    if root and not os.path.isdir(root):
        raise InputError(
            f'{split} data: no folder {root}. Put or link the data there, or set data_root in the config; '
            f'{README_SECTION}'
        )
    file = Path(root, dataset['ann_file'])
    if not file.is_file():
        there = ', '.join(sorted(path.name for path in file.parent.glob('*'))[:8]) if file.parent.is_dir() else ''
        hint = f'{file.parent} holds {there or "nothing"}' if file.parent.is_dir() else f'nor a folder {file.parent}'
        raise InputError(f'{split} data: no annotation file {file}; {hint}; {README_SECTION}')
    return file


def _require_files(folder: Path, names: list[str], split: str, source: Path) -> None:
    present = set(os.listdir(folder)) if folder.is_dir() else set()
    missing = [folder / name for name in names if name not in present]
    if missing:
        raise InputError(
            f'{split} data: {len(missing)} of the {len(names)} annotations that {source} lists are missing, the first '
            f'of them {missing[0]}; {README_SECTION}'
        )


def _class_error(split: str, source: Path, classes: tuple[str, ...], found: list[str]) -> InputError:
    absent = [name for name in classes if name not in found]
    by_lower = {name.lower(): name for name in found}
    near = {name: difflib.get_close_matches(name.lower(), by_lower, n=1) for name in absent}
    hints = [f'{name!r} for {by_lower[match[0]]!r}' for name, match in near.items() if match]
    return InputError(
        f"{split} data: {source} has the classes {_short(found)}, but the config's {_short(absent)} "
        f'{"is" if len(absent) == 1 else "are"} not among them{" (" + ", ".join(hints[:3]) + "?)" if hints else ""}. '
        f'Set metainfo=dict(classes=(…)) of the data set to the names in the annotations, and num_classes of the head '
        f'to their number; see docs/own_data.md'
    )


def _short(names: list[str] | tuple[str, ...]) -> str:
    names = list(names)
    return ', '.join(map(repr, names[:6])) + (f' and {len(names) - 6} more' if len(names) > 6 else '')


def _warn(split: str, text: str) -> None:
    print(f'warning: {split} data: {text}', file=sys.stderr, flush=True)


def _check_coco(dataset: dict, split: str, decode: bool) -> None:
    file = _annotation_file(dataset, split)
    content = read_coco(file, split)
    classes, found = _classes(dataset), [category['name'] for category in content['categories']]
    if not set(classes) <= set(found):
        raise _class_error(split, file, classes, found)
    errors, warnings, examples = find_problems(content, evaluated=split != 'train')
    if errors:
        raise InputError(f'{split} data: {file} has {counted(errors, examples)}')
    if warnings:
        _warn(split, f'{file} has {counted(warnings, examples)}; MMDetection leaves them out')
    prefix = (dataset.get('data_prefix') or {}).get('img', '')
    folder = Path(dataset.get('data_root') or '', prefix)
    names = [image['file_name'] for image in content['images']]
    sizes = require_images(folder, names, split, file, README_SECTION, decode)
    if not content.get('annotations'):
        raise InputError(f'{split} data: {file} has no annotations, so there is nothing to {_USE[split]}')
    wrong = wrong_sizes(content, sizes)
    if wrong:
        raise InputError(
            f'{split} data: {len(wrong)} of the {len(names)} images have another size than {file} says, by which boxes '
            f'are cut off: {wrong[0]}'
        )
    ids = {category['id'] for category in content['categories'] if category['name'] in classes}
    if not any(box['category_id'] in ids for box in content['annotations']):
        raise InputError(
            f"{split} data: {file} has no box of the config's classes, so there is nothing to {_USE[split]}"
        )


def _check_voc(dataset: dict, split: str, decode: bool) -> None:
    file = _annotation_file(dataset, split)
    root = Path(dataset.get('data_root') or '', (dataset.get('data_prefix') or {}).get('sub_data_root', ''))
    images, annotations = dataset.get('img_subdir', 'JPEGImages'), dataset.get('ann_subdir', 'Annotations')
    names = file.read_text().split()
    require_images(root, [f'{images}/{name}.jpg' for name in names], split, file, README_SECTION, decode)
    _require_files(root / annotations, [f'{name}.xml' for name in names], split, file)
    found: Counter[str] = Counter()
    flat, wrong = [], []
    for name in names:
        path = root / annotations / f'{name}.xml'
        try:
            boxes = list(ElementTree.parse(path).getroot().iter('object'))
            sides = [_sides(box) for box in boxes]
            wrong += [path for side in sides if not all(map(math.isfinite, side))]
            flat += [path for xmin, ymin, xmax, ymax in sides if xmax - xmin < 1 or ymax - ymin < 1]
        except (ElementTree.ParseError, TypeError, ValueError) as error:
            raise InputError(f'{split} data: {path} is no valid VOC annotation, perhaps truncated: {error}') from error
        found.update(box.findtext('name', '') for box in boxes)
    if wrong:
        raise InputError(f'{split} data: {len(wrong)} boxes have NaN or infinity, the first in {wrong[0]}')
    classes = _classes(dataset)
    # A class without a box is normal in a small set; together with boxes of unknown classes it is a wrong name.
    if not set(classes) <= set(found) and not set(found) <= set(classes):
        raise _class_error(split, root / annotations, classes, sorted(found))
    if not found:
        raise InputError(f'{split} data: no image of {file} has a box; there is nothing to {_USE[split]}')
    unknown = {name: count for name, count in found.items() if name not in classes}
    if unknown:
        _warn(
            split, f'{file}: {sum(unknown.values())} boxes are of other classes ({_short(list(unknown))}) and left out'
        )
    if split == 'train' and flat and not (dataset.get('filter_cfg') or {}).get('bbox_min_size'):
        raise InputError(
            f'{split} data: {len(flat)} boxes have no width or height, the first in {flat[0]}; one of them makes the '
            f"loss infinite. Set the data set's filter_cfg=dict(bbox_min_size=1) to leave them out"
        )


def _sides(box: ElementTree.Element) -> tuple[float, ...]:
    return tuple(float(box.findtext(f'bndbox/{side}', '')) for side in ('xmin', 'ymin', 'xmax', 'ymax'))


def _check_class_folders(dataset: dict, split: str, decode: bool) -> None:
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


CHECKS = {
    'CocoDataset': _check_coco,
    'VOCDataset': _check_voc,
    'XMLDataset': _check_voc,
    'ImageNet': _check_class_folders,
    'CustomDataset': _check_class_folders,
}
