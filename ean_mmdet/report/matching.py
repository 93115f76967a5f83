"""Detections matched with ground truth as COCO's evaluation does, and what average precision comes of it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from pycocotools import mask as coco_mask

from .predictions import Detections

RECALLS = np.linspace(0, 1, 101)
THRESHOLDS = tuple(np.linspace(0.5, 0.95, 10))
MOST = 100  # detections an image


def overlaps(boxes: np.ndarray, others: np.ndarray, crowd: np.ndarray | None = None) -> np.ndarray:
    """Intersection over union of boxes (D, 4) and (G, 4): (D, G); over the first's area where the second is a crowd."""
    if not len(boxes) or not len(others):
        return np.zeros((len(boxes), len(others)))
    first, second = (np.concatenate([b[:, :2], b[:, 2:] - b[:, :2]], 1).astype(float) for b in (boxes, others))
    return coco_mask.iou(first, second, np.zeros(len(others)) if crowd is None else crowd.astype(np.uint8))


def match(image: Detections, threshold: float = 0.5) -> tuple[np.ndarray, np.ndarray]:
    """Match an image's best 100 detections of each class with ground truth of their class, the best first.

    Args:
        image: The image.
        threshold: Least intersection over union.

    Returns:
        For each detection the number of the box that it found; -1: none, -2: it counts neither way, being on what is
        ignored or beyond the 100. And for each box of the ground truth the number of the detection that found it, or
        -1.
    """
    found, by = np.full(len(image.scores), -1), np.full(len(image.true_labels), -1)
    ious = overlaps(image.boxes, image.true_boxes, image.ignored)
    for label in np.unique(image.labels):
        mine = np.flatnonzero(image.labels == label)
        found[mine[MOST:]] = -2
        same = image.true_labels == label
        for index in mine[:MOST]:
            free = np.where(same & (by < 0) & ~image.ignored, ious[index], -1)
            best = int(free.argmax()) if len(free) else -1
            if best >= 0 and free[best] >= threshold:
                found[index], by[best] = best, index
            elif (same & image.ignored & (ious[index] >= threshold)).any():
                found[index] = -2
    return found, by


def average_precision(scores: np.ndarray, right: np.ndarray, positives: int) -> float:
    """AP of one class, of 101 recalls; NaN where there is nothing to find."""
    precision, recall = precision_recall(scores, right, positives)[:2]
    if not positives:
        return float('nan')
    at = np.searchsorted(recall, RECALLS, side='left')
    return float(np.append(np.maximum.accumulate(precision[::-1])[::-1], 0)[np.minimum(at, len(precision))].mean())


def precision_recall(
    scores: np.ndarray, right: np.ndarray, positives: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Precision and recall of a class down to each score, and the scores, the highest first."""
    order = np.argsort(-scores, kind='mergesort')
    hits = np.cumsum(right[order])
    return hits / np.arange(1, len(order) + 1), hits / max(positives, 1), scores[order]


def class_hits(images: Sequence[Detections], classes: int, threshold: float = 0.5) -> list[tuple]:
    """Scores, hits and number of boxes to find, of each class."""
    parts: list[tuple[list, list]] = [([], []) for _ in range(classes)]
    positives = np.zeros(classes, dtype=int)
    for image in images:
        found, _ = match(image, threshold)
        np.add.at(positives, image.true_labels[~image.ignored], 1)
        for label in np.unique(image.labels):
            counted = (image.labels == label) & (found > -2)
            parts[label][0].append(image.scores[counted])
            parts[label][1].append(found[counted] >= 0)
    empty = np.zeros(0)
    return [
        (np.concatenate([empty, *scores]), np.concatenate([empty, *right]).astype(bool), int(count))
        for (scores, right), count in zip(parts, positives)
    ]


def class_precisions(images: Sequence[Detections], classes: int) -> np.ndarray:
    """AP of each class (rows) at each of COCO's ten thresholds (columns)."""
    return np.array(
        [[average_precision(*hits) for hits in class_hits(images, classes, threshold)] for threshold in THRESHOLDS]
    ).T


def confusion(images: Sequence[Detections], classes: int, score: float = 0.3, threshold: float = 0.5) -> np.ndarray:
    """How often a class was found as which: rows the truth, columns the detection, the last of both the background.

    Args:
        images: The images.
        classes: Number of classes.
        score: Least score of a detection that counts. Defaults to 0.3.
        threshold: Least intersection over union. Defaults to 0.5.
    """
    matrix = np.zeros((classes + 1, classes + 1), dtype=int)
    for image in images:
        chosen = np.flatnonzero(image.scores >= score)
        ious = overlaps(image.boxes[chosen], image.true_boxes, image.ignored)
        free = np.ones(len(image.true_labels), dtype=bool)
        for row, index in enumerate(chosen):
            # a box of its own class before one of another
            rank = np.where(free & (ious[row] >= threshold), ious[row] + (image.true_labels == image.labels[index]), -1)
            best = int(rank.argmax()) if len(rank) else -1
            if best >= 0 and rank[best] >= 0:
                if not image.ignored[best]:
                    matrix[image.true_labels[best], image.labels[index]] += 1
                    free[best] = False
            else:
                matrix[classes, image.labels[index]] += 1
        np.add.at(matrix[:, classes], image.true_labels[free & ~image.ignored], 1)
    return matrix
