"""Time of an evaluation on a made-up data set of any size, and its numbers beside pycocotools'."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from mmdet.datasets.api_wrappers import COCO, COCOeval

from .coco_metric import Annotations, Evaluation

WIDTH, HEIGHT = 640, 480


def made_up(
    images: int = 5000, objects: int = 36, classes: int = 80, detections: int = 100, seed: int = 0
) -> tuple[dict, list[dict]]:
    """Annotations and results in COCO's formats, of a detector that is right now and then.

    A fiftieth of the objects are crowds, a fiftieth of the images are empty, and scores have three digits, so that some
    are equal.

    Args:
        images: Number of images.
        objects: Objects an image, on average.
        classes: Number of classes.
        detections: Detections an image, at most.
        seed: Of the random numbers.
    """
    random = np.random.default_rng(seed)
    annotations: list[dict] = []
    results: list[dict] = []
    for image in range(1, images + 1):
        number = 0 if random.random() < 0.02 or image == 1 else int(random.poisson(objects))
        sizes = np.exp(random.uniform(np.log(8), np.log(300), (number, 2)))
        boxes = np.concatenate([random.random((number, 2)) * ([WIDTH, HEIGHT] - sizes), sizes], 1)
        labels = random.integers(1, classes + 1, number)
        for box, label, crowd in zip(boxes.tolist(), labels.tolist(), (random.random(number) < 0.02).tolist()):
            entry = dict(id=len(annotations) + 1, image_id=image, category_id=label, bbox=box, iscrowd=int(crowd))
            annotations.append(dict(entry, area=0.7 * box[2] * box[3]))
        boxes, labels, scores = _guesses(random, boxes, labels, classes, detections)
        results += [
            dict(image_id=image, category_id=label, bbox=box, score=score)
            for box, label, score in zip(boxes.tolist(), labels.tolist(), scores.tolist())
        ]
    names = [dict(id=number, name=f'class {number}') for number in range(1, classes + 1)]
    pictures = [dict(id=n, file_name=f'{n}.jpg', width=WIDTH, height=HEIGHT) for n in range(1, images + 1)]
    return dict(images=pictures, annotations=annotations, categories=names), results


def imagined_detections(dataset: Any, detections: int = 60, seed: int = 0) -> Iterator[dict]:
    """Predictions for each image of a data set, of a detector that is right now and then."""
    random = np.random.default_rng(seed)
    for index in range(len(dataset)):
        info = dataset.get_data_info(index)
        corners = np.array([entry['bbox'] for entry in info['instances']], float).reshape(-1, 4)
        labels = np.array([entry['bbox_label'] for entry in info['instances']], int)
        boxes = np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], 1)
        boxes, labels, scores = _guesses(random, boxes, labels + 1, len(dataset.metainfo['classes']), detections)
        boxes[:, 2:] += boxes[:, :2]
        found = dict(bboxes=torch.tensor(boxes), scores=torch.tensor(scores), labels=torch.tensor(labels - 1))
        yield dict(
            img_id=info['img_id'], ori_shape=(info['height'], info['width']), instances=info['instances'],
            pred_instances=found,
        )  # fmt: skip


def _guesses(
    random: np.random.Generator, boxes: np.ndarray, labels: np.ndarray, classes: int, most: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    number = most if random.random() < 0.9 else int(random.integers(0, most + 1))
    if not len(boxes):
        boxes, labels = np.array([[50.0, 50, 60, 40]]), np.array([1])
    which = random.integers(0, len(boxes), number)
    guesses = boxes[which] + random.normal(0, 0.12, (number, 4)) * np.tile(boxes[which, 2:], 2)
    guesses[:, 2:] = np.maximum(guesses[:, 2:], 1)
    guessed = np.where(random.random(number) < 0.85, labels[which], random.integers(1, classes + 1, number))
    return guesses.astype(np.float32).astype(float), guessed, np.round(random.beta(1, 4, number), 3)


def stats(
    annotations: dict, results: list[dict], backend: str, kind: str = 'bbox', **params: Any
) -> tuple[np.ndarray, np.ndarray]:
    """COCO's twelve numbers and all precisions.

    Args:
        annotations: COCO's annotations.
        results: COCO's results.
        backend: ``'hotcoco'`` or ``'pycocotools'``.
        kind: ``'bbox'`` or ``'segm'``.
        **params: Of ``COCOeval.params``, where they aren't those of ``CocoMetric``.
    """
    coco, evaluation = (Annotations, Evaluation) if backend == 'hotcoco' else (COCO, COCOeval)
    with contextlib.redirect_stdout(io.StringIO()):
        truth: Any = coco()
        truth.dataset = annotations
        truth.createIndex()
        evaluator: Any = evaluation(truth, truth.loadRes(results), kind)
        evaluator.params.maxDets = [100, 300, 1000]
        evaluator.params.imgIds, evaluator.params.catIds = truth.getImgIds(), truth.getCatIds()
        for name, value in params.items():
            setattr(evaluator.params, name, np.array(value) if name == 'iouThrs' else value)
        evaluator.evaluate()
        evaluator.accumulate()
        evaluator.summarize()
    return np.array(evaluator.stats), np.array(evaluator.eval['precision'])
