"""Checks a config's data before anything is built: files, classes, images.

mmdet ignores what doesn't fit: boxes of unknown classes are dropped, an image that isn't there fails when its turn
comes. This says so at once.
"""

from __future__ import annotations

import difflib
import json
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

from mmdet.registry import DATASETS
from mmengine.config import Config

from ..errors import InputError

README_SECTION = "see 'Data' in README.md"


def check_data(config: Config, splits: tuple[str, ...] = ('train', 'val')) -> None:
    """Check the data sets of a config: COCO and VOC format, and folders of images per class.

    Args:
        config: The whole config.
        splits: Which of ``train``, ``val`` and ``test`` to check. Defaults to ``('train', 'val')``.

    Raises:
        InputError: A data root, annotation file or image is missing, an annotation file is damaged, its classes aren't
            the config's, or there is nothing to train on.
    """
    for split in splits:
        loader = config.get(f'{split}_dataloader')
        for dataset in _leaves(loader.dataset) if loader else ():
            name = dataset.type.rsplit('.', 1)[-1]
            check = CHECKS.get(name)
            if check and _is_local(dataset):
                check(dataset, split)


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


def _classes(dataset: dict) -> tuple[str, ...]:
    metainfo = dataset.get('metainfo') or DATASETS.get(dataset['type']).METAINFO
    classes = metainfo.get('classes') or DATASETS.get(dataset['type']).METAINFO['classes']
    return (classes,) if isinstance(classes, str) else tuple(classes)


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


def _require_images(folder: Path, names: list[str], split: str, source: Path) -> None:
    if not names:
        raise InputError(f'{split} data: {source} lists no images')
    present: dict[Path, set[str]] = {}
    missing = []
    for name in names:
        path = folder / name
        if path.parent not in present:
            present[path.parent] = set(os.listdir(path.parent)) if path.parent.is_dir() else set()
        if path.name not in present[path.parent]:
            missing.append(path)
    if missing:
        where = '' if folder.is_dir() else f' (there is no folder {folder})'
        raise InputError(
            f'{split} data: {len(missing)} of the {len(names)} images that {source} lists are missing{where}, '
            f'the first of them {missing[0]}; {README_SECTION}'
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


def _check_coco(dataset: dict, split: str) -> None:
    file = _annotation_file(dataset, split)
    try:
        content = json.loads(file.read_bytes())
    except ValueError as error:
        raise InputError(f'{split} data: {file} is no valid JSON, perhaps truncated: {error}') from error
    lacking = {'images', 'categories'} - set(content) if isinstance(content, dict) else {'images', 'categories'}
    if lacking:
        raise InputError(f'{split} data: {file} is no COCO annotation file: it lacks {" and ".join(sorted(lacking))}')
    classes, found = _classes(dataset), [category['name'] for category in content['categories']]
    if not set(classes) <= set(found):
        raise _class_error(split, file, classes, found)
    prefix = (dataset.get('data_prefix') or {}).get('img', '')
    folder = Path(dataset.get('data_root') or '', prefix)
    _require_images(folder, [image['file_name'] for image in content['images']], split, file)
    if split == 'train':
        ids = {category['id'] for category in content['categories'] if category['name'] in classes}
        if not any(box['category_id'] in ids for box in content.get('annotations', ())):
            raise InputError(
                f"{split} data: {file} has no box of the config's classes, so there is nothing to train on"
            )


def _check_voc(dataset: dict, split: str) -> None:
    file = _annotation_file(dataset, split)
    root = Path(dataset.get('data_root') or '', (dataset.get('data_prefix') or {}).get('sub_data_root', ''))
    images, annotations = dataset.get('img_subdir', 'JPEGImages'), dataset.get('ann_subdir', 'Annotations')
    names = file.read_text().split()
    _require_images(root, [f'{images}/{name}.jpg' for name in names], split, file)
    _require_images(root, [f'{annotations}/{name}.xml' for name in names], split, file)
    found: Counter[str] = Counter()
    flat = []
    for name in names:
        path = root / annotations / f'{name}.xml'
        try:
            boxes = list(ElementTree.parse(path).getroot().iter('object'))
            flat += [path for box in boxes if _is_flat(box)]
        except (ElementTree.ParseError, TypeError, ValueError) as error:
            raise InputError(f'{split} data: {path} is no valid VOC annotation, perhaps truncated: {error}') from error
        found.update(box.findtext('name') for box in boxes)
    classes = _classes(dataset)
    # A class without a box is normal in a small set; together with boxes of unknown classes it is a wrong name.
    if not set(classes) <= set(found) and not set(found) <= set(classes):
        raise _class_error(split, root / annotations, classes, sorted(found))
    if split == 'train' and not found:
        raise InputError(f'{split} data: no image of {file} has a box; there is nothing to train on')
    if split == 'train' and flat and not (dataset.get('filter_cfg') or {}).get('bbox_min_size'):
        raise InputError(
            f'{split} data: {len(flat)} boxes have no width or height, the first in {flat[0]}; one of them makes the '
            f"loss infinite. Set the data set's filter_cfg=dict(bbox_min_size=1) to leave them out"
        )


def _is_flat(box: ElementTree.Element) -> bool:
    xmin, ymin, xmax, ymax = (float(box.findtext(f'bndbox/{side}')) for side in ('xmin', 'ymin', 'xmax', 'ymax'))
    return xmax - xmin < 1 or ymax - ymin < 1


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


CHECKS = {
    'CocoDataset': _check_coco,
    'VOCDataset': _check_voc,
    'XMLDataset': _check_voc,
    'ImageNet': _check_class_folders,
    'CustomDataset': _check_class_folders,
}
