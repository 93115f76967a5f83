"""Anchors from the boxes: k-means of their sizes, and the recall that the assigner could reach, before and after.

Two boxes with one centre have an IoU that depends on the ratios of their widths and heights alone, and of nested ones
minus its logarithm is the city-block distance of the logarithms of their sides. So k-means is done on those.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

import numpy as np
from mmdet.registry import TASK_UTILS
from scipy.cluster.vq import kmeans2

from ..errors import InputError

SAMPLED = 3000  # boxes that anchors are made from and judged on
BETTER = 0.005  # of recall that other anchors than the base's must bring
IOU = 0.5


@dataclass
class Anchors:
    """Anchors of a detector.

    Attributes:
        settings: What to set in the config's anchor generator; empty where the base's are as good.
        before: The recall of the base's anchors, see :func:`recall`.
        after: That of these.
    """

    settings: dict
    before: float
    after: float


def choose_anchors(base: dict, boxes: np.ndarray, labels: np.ndarray, size: tuple[int, int], seed: int = 0) -> Anchors:
    """Choose the anchors of a detector: the base's, or those of k-means where they reach more boxes.

    Args:
        base: The anchor generator of the base config, ``SSDAnchorGenerator`` or ``AnchorGenerator``.
        boxes: Width and height of boxes in pixels of the network's input, (N, 2).
        labels: Their classes, (N,). Each counts the same in the recall, and rare ones more than once in k-means.
        size: Width and height of the input.
        seed: Of k-means and of the boxes' places. Defaults to 0.
    """
    usable = (boxes >= 1).all(1)
    if not usable.any():
        raise InputError(
            f'none of the {len(boxes)} boxes has a pixel in width and height at the input of {size[0]} × {size[1]}: '
            f'are they boxes of these images? A larger --input-size may help'
        )
    boxes, labels = boxes[usable], labels[usable]
    generator = np.random.default_rng(seed)
    boxes, labels = _sample(boxes, labels, generator)
    centres = generator.uniform(0.5 * boxes, np.maximum(np.array(size) - 0.5 * boxes, 0.5 * boxes))
    before = recall(base, boxes, labels, centres, size)
    best = Anchors({}, before, before)
    for settings in _candidates(base, boxes, size, seed):
        after = recall({**base, **settings}, boxes, labels, centres, size)
        if after > best.after + BETTER:
            best = Anchors(settings, before, after)
    return best


def _sample(boxes: np.ndarray, labels: np.ndarray, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Some of the boxes, a class by the square root of its number."""
    counts = np.bincount(labels)
    weights = 1 / np.sqrt(counts[labels])
    chosen = generator.choice(len(boxes), SAMPLED, p=weights / weights.sum())
    return boxes[chosen], labels[chosen]


def _candidates(base: dict, boxes: np.ndarray, size: tuple[int, int], seed: int) -> list[dict]:
    """Settings of the anchor generator by k-means: sizes of the levels, and aspect ratios."""
    levels, largest = len(base['strides']), max(size)
    found: list[dict] = []
    for number in range(1, levels + 1):
        ssd = base['type'] == 'SSDAnchorGenerator'
        sizes = _sizes(np.sqrt(boxes.prod(1)), number, levels, seed, 0.95 * largest if ssd else None)
        if ssd:
            found.append(dict(min_sizes=sizes, max_sizes=[*sizes[1:], max(largest, sizes[-1] + 1)]))
        elif 'scales_per_octave' in base:
            found.append(dict(base_sizes=sizes, octave_base_scale=1))
        else:
            found.append(dict(base_sizes=sizes, scales=[1]))
    if base['type'] == 'AnchorGenerator':
        # height over width
        ratios = [round(float(np.exp(mean)), 2) for mean in _means(np.log(boxes[:, 1] / boxes[:, 0]), 3, seed)]
        if len(set(ratios)) == len(base['ratios']):
            found += [dict(ratios=ratios), *(dict(settings, ratios=ratios) for settings in list(found))]
    return found


def _means(values: np.ndarray, number: int, seed: int) -> np.ndarray:
    """Means of values by k-means, in order; fewer where there are fewer values."""
    number = min(number, len(np.unique(values)))
    means, _ = kmeans2(values[:, None], number, minit='++', seed=np.random.default_rng(seed))
    return np.sort(means[:, 0])


def _sizes(sides: np.ndarray, number: int, levels: int, seed: int, end: float | None) -> list[int]:
    """A size for each level: the means of k-means for the finest of them, and on from the last of these.

    The coarser levels go to ``end`` at even ratios; without it each is twice as large as the one before.
    """
    means = np.exp(_means(np.log(sides), number, seed))
    rest = levels - len(means)
    last = float(means[-1])
    tail = last * 2.0 ** np.arange(rest + 1) if end is None else np.geomspace(last, max(end, last * 1.1), rest + 1)
    sizes: list[int] = []
    for side in [*means, *tail[1:]]:
        sizes.append(max(round(float(side)), sizes[-1] + 1 if sizes else 2))
    return sizes


def recall(settings: dict, boxes: np.ndarray, labels: np.ndarray, centres: np.ndarray, size: tuple[int, int]) -> float:
    """The share of boxes that an anchor overlaps at an IoU of 0.5, the mean over the classes.

    The anchors are MMDetection's own, on the grid of each level. Of the places of an anchor the nearest overlaps most.

    Args:
        settings: Of the anchor generator.
        boxes: Width and height of boxes in pixels of the input, (N, 2).
        labels: Their classes, (N,).
        centres: Where they are, (N, 2).
        size: Width and height of the input.
    """
    generator = TASK_UTILS.build(copy.deepcopy(dict(settings, type=f'mmdet.{settings["type"]}')))
    best = np.zeros(len(boxes))
    for anchors, stride in zip(generator.base_anchors, generator.strides):
        anchors = anchors.numpy().astype(float)
        middles, sides = (anchors[:, :2] + anchors[:, 2:]) / 2, anchors[:, 2:] - anchors[:, :2]
        last = np.ceil(np.array(size) / stride) - 1  # of the grid
        steps = np.clip(np.round((centres[:, None] - middles) / stride), 0, last)
        offsets = np.abs(middles + steps * stride - centres[:, None])
        half = (boxes[:, None] + sides) / 2
        inside = np.minimum(np.clip(half - offsets, 0, None), np.minimum(boxes[:, None], sides)).prod(2)
        union = boxes.prod(1)[:, None] + sides.prod(1) - inside
        best = np.maximum(best, (inside / union).max(1))
    return float(np.mean([(best[labels == label] >= IOU).mean() for label in np.unique(labels)]))
