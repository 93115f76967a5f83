"""Results of a test as a file in COCO's results format, and the same read back beside the ground truth.

A list with a detection an entry: ``image_id``, ``category_id``, ``bbox`` (x, y, width, height in pixels), ``score``,
and ``segmentation`` where there are masks. Of a classifier the five best classes of each image, without boxes; images
are numbered from 0 on as the data set has them, classes likewise. What made them is in ``NAME.info.json`` beside it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from mmdet.evaluation.metrics import CocoMetric
from mmengine.config import Config
from mmengine.evaluator import BaseMetric
from mmengine.registry import DATASETS, METRICS, DefaultScope

from ..datasets.config_parts import scope_of
from ..engine import input_shape
from ..errors import InputError
from ..files import write_text
from .detections import Detections, Truth

TOP = 5  # classes of a classifier's image


def info_file(path: Path) -> Path:
    """The file beside results that says what made them."""
    return path.with_suffix('.info.json')


def write_info(path: Path, **entries: Any) -> None:
    """Write what made results beside them.

    Args:
        path: The results' file.
        **entries: What there is to say: ``config``, ``checkpoint``, ``metrics`` and whatever else.
    """
    write_text(info_file(path), json.dumps(entries, indent=1, default=float) + '\n')


def read_info(path: Path) -> dict:
    """Origin of results; empty where that is not known."""
    file = info_file(path)
    return json.loads(file.read_text(encoding='utf-8')) if file.is_file() else {}


def category_ids(dataset: Any) -> list[int]:
    """The ids of a data set's classes: those of its annotation file, else from 1 on."""
    own = getattr(dataset, 'cat_ids', None)
    return list(own) if own else list(range(1, len(dataset.metainfo['classes']) + 1))


@METRICS.register_module()
class WriteDetections(CocoMetric):
    """Write detections as COCO results; it has no metrics.

    Args:
        out_file: The file.
        categories: Ids of the classes.
    """

    def __init__(self, out_file: str, categories: Sequence[int]) -> None:
        super().__init__(format_only=True, outfile_prefix=out_file)
        self.out_file, self.cat_ids = Path(out_file), list(categories)
        self._coco_api = False  # the ground truth isn't asked for

    def compute_metrics(self, results: list) -> dict[str, float]:
        """Write all images' detections."""
        entries = [entry for _, result in results for entry in self._entries(result)]
        write_text(self.out_file, json.dumps(entries))
        return {}

    def _entries(self, result: dict) -> list[dict]:
        boxes = result['bboxes'].astype(float)
        boxes[:, 2:] -= boxes[:, :2]
        entries = [
            dict(image_id=result['img_id'], category_id=self.cat_ids[label], bbox=box, score=score)
            for box, score, label in zip(boxes.tolist(), result['scores'].tolist(), result['labels'].tolist())
        ]
        for entry, mask in zip(entries, result.get('masks', ())):
            entry['segmentation'] = dict(size=mask['size'], counts=mask['counts'].decode())
        return entries


@METRICS.register_module()
class WriteClasses(BaseMetric):
    """Write a classifier's five best classes of each image; it has no metrics.

    Args:
        out_file: The file.
    """

    default_prefix = 'results'

    def __init__(self, out_file: str) -> None:
        super().__init__()
        self.out_file = Path(out_file)

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Keep the best classes of a batch."""
        for sample in data_samples:
            scores, labels = sample['pred_score'].topk(min(TOP, len(sample['pred_score'])))
            self.results.append((sample.get('sample_idx'), labels.tolist(), scores.tolist()))

    def compute_metrics(self, results: list) -> dict[str, float]:
        """Write those of all images."""
        entries = [
            dict(image_id=number if index is None else index, category_id=label, score=score)
            for number, (index, labels, scores) in enumerate(results)
            for label, score in zip(labels, scores)
        ]
        write_text(self.out_file, json.dumps(entries))
        return {}


def annotated_truth(
    file: Path, folder: Path | None = None, classes: Sequence[str] | None = None, ids: set | None = None
) -> Truth:
    """The ground truth of a COCO annotation file.

    Args:
        file: The file.
        folder: Where the images are. Defaults to None, where the file is.
        classes: Those that count. Defaults to None, all.
        ids: Images that count. Defaults to None, all.

    Raises:
        InputError: It isn't such a file.
    """
    try:
        data = json.loads(file.read_text(encoding='utf-8'))
        chosen = [entry for entry in data['categories'] if classes is None or entry['name'] in classes]
        if classes is not None:
            chosen.sort(key=lambda entry: list(classes).index(entry['name']))
        labels = {entry['id']: label for label, entry in enumerate(chosen)}
        images = sorted((e for e in data['images'] if ids is None or e['id'] in ids), key=lambda entry: entry['id'])
        numbers = {entry['id']: number for number, entry in enumerate(images)}
        objects = [
            (numbers[entry['image_id']], labels[entry['category_id']], entry['bbox'], bool(entry.get('iscrowd', 0)))
            for entry in data['annotations']
            if entry['image_id'] in numbers and entry['category_id'] in labels
        ]
        paths = [(folder or file.parent) / entry['file_name'] for entry in images]
        return _truth(list(numbers), paths, [entry['name'] for entry in chosen], list(labels), objects)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f'{file} is no COCO annotation file of boxes ({type(error).__name__}: {error}); it needs images, '
            f'annotations and categories'
        ) from error


def config_truth(config: Config) -> Truth:
    """The ground truth of a config's test set: of its COCO annotation file, else what its data set reads."""
    dataset = build_dataset(config)
    classes = list(dataset.metainfo['classes'])
    infos = [dataset.get_data_info(index) for index in range(len(dataset))]
    file = str(getattr(dataset, 'ann_file', ''))
    if file.endswith('.json') and getattr(dataset, 'cat_ids', None):
        folder = Path(dataset.data_prefix.get('img') or dataset.data_root or '.')
        return annotated_truth(Path(file), folder, classes, {info['img_id'] for info in infos})
    infos.sort(key=lambda info: info['img_id'])
    objects = []
    for number, info in enumerate(infos):
        for entry in info['instances']:
            x1, y1, x2, y2 = map(float, entry['bbox'])
            objects.append((number, entry['bbox_label'], [x1, y1, x2 - x1, y2 - y1], bool(entry['ignore_flag'])))
    ids, paths = [info['img_id'] for info in infos], [Path(info['img_path']) for info in infos]
    return _truth(ids, paths, classes, category_ids(dataset), objects)


def build_dataset(config: Config) -> Any:
    """The test set of a config of any OpenMMLab library."""
    with DefaultScope.overwrite_default_scope(scope_of(config)):
        return DATASETS.build(config.test_dataloader.dataset)


def tested_shape(config: Config) -> tuple[int, int]:
    """Height and width of the images that a config tests on: of its pipeline, else those of the first image."""
    try:
        return input_shape(config)
    except InputError:
        height, width = build_dataset(config)[0]['inputs'].shape[-2:]
        return int(height), int(width)


def _truth(ids: list, paths: list[Path], classes: list[str], categories: list[int], objects: list[tuple]) -> Truth:
    objects = sorted(objects, key=lambda entry: entry[0])
    images, labels, boxes, ignored = zip(*objects) if objects else ((), (), (), ())
    columns = (np.array(images, int), np.array(boxes, float).reshape(-1, 4))
    return Truth(ids, paths, classes, categories, *columns, np.array(labels, int), np.array(ignored, bool))


def read_results(path: Path) -> tuple[list[dict], Mapping[Any, str]]:
    """The entries of a results file, and the images' files by id where it is ``tools/infer.py``'s, which has them.

    Raises:
        InputError: It isn't such a file.
    """
    try:
        data = json.loads(path.read_text(encoding='utf-8'))
        names = {entry['id']: str(entry['file_name']) for entry in data['images']} if isinstance(data, dict) else {}
        entries = data['annotations'] if isinstance(data, dict) else data
        for number, entry in enumerate(entries, 1):
            if not _is_result(entry):
                raise ValueError(f'entry {number} is {str(entry)[:120]}')
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f'{path} holds no COCO results ({type(error).__name__}: {error}): a list of image_id, category_id, bbox '
            f'and score, as tools/test.py --out writes it'
        ) from error
    return entries, names


def _is_result(entry: dict) -> bool:
    score, box = entry['score'], entry.get('bbox', [0, 0, 0, 0])
    return (
        type(entry['image_id']) in (int, str)
        and type(entry['category_id']) in (int, str)
        and _is_finite(score)
        and type(box) is list
        and len(box) == 4
        and all(map(_is_finite, box))
    )


def _is_finite(value: object) -> bool:
    return type(value) in (int, float) and math.isfinite(value)  # type: ignore[arg-type]


def read_detections(path: Path, truth: Truth) -> Detections:
    """The detections of a results file, beside their ground truth.

    Args:
        path: The file, of any framework. Images are told by their ids, or by the names of their files.
        truth: The ground truth. Classes that it hasn't don't count.

    Raises:
        InputError: It isn't a file of detections, or of other images.
    """
    entries, names = read_results(path)
    numbers: dict[Any, int] = {key: n for n, p in enumerate(truth.paths) for key in (p.stem, p.name, str(p))}
    numbers |= {image: number for number, image in enumerate(truth.ids)}
    labels = {category: label for label, category in enumerate(truth.categories)}
    entries = [entry for entry in entries if entry['category_id'] in labels]
    try:
        images = np.array([numbers[names.get(entry['image_id'], entry['image_id'])] for entry in entries], int)
        boxes = np.array([entry['bbox'] for entry in entries], float).reshape(-1, 4)
    except KeyError as error:
        what = 'its entries have no bbox' if error.args[0] == 'bbox' else f'image {error} is not in the test set'
        raise InputError(f'{path}: {what}; is it of another one?') from error
    scores = np.array([entry['score'] for entry in entries], float)
    found = np.array([labels[entry['category_id']] for entry in entries], int)
    order = np.lexsort((-scores, images))
    return Detections(truth, images[order], boxes[order], scores[order], found[order])
