"""Metrics of resampled test images, and intervals over seeds and images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import t as student

from .classification import Classified
from .matching import IGNORED, Matches

REPLICATES = 1000
POWER = 0.8
BLOCK = 20_000_000  # numbers at a time

# Metrics that test images can be resampled for: which of a detector's ten thresholds they are of.
PRECISIONS = {'coco/bbox_mAP': slice(None), 'coco/bbox_mAP_50': slice(0, 1), 'coco/bbox_mAP_75': slice(5, 6)}
ACCURACIES = ('accuracy/top1', 'accuracy/top5')


def resampler(results: Matches | Classified, metric: str) -> Callable[[np.ndarray], np.ndarray] | None:
    """Function for a metric of resampled test images: weights (B, I), how often each image counts, to (B,).

    Args:
        results: A network's results.
        metric: The metric.

    Returns:
        None where the metric can't be computed of resampled images here.
    """
    if isinstance(results, Matches) and metric in PRECISIONS:
        return lambda weights: mean_precisions(results, weights, PRECISIONS[metric])
    if isinstance(results, Classified) and metric in ACCURACIES:
        right = results.right if metric == ACCURACIES[0] else results.among
        return lambda weights: 100 * (weights @ right) / weights.sum(1)
    return None


def mean_precisions(matches: Matches, weights: np.ndarray, thresholds: slice = slice(None)) -> np.ndarray:
    """COCO's mean AP of resampled images, of the classes that these have.

    Args:
        matches: The matches.
        weights: (B, I), how often each image counts.
        thresholds: Which of COCO's ten. Defaults to all.

    Returns:
        (B,); NaN where nothing is to be found.
    """
    d, truth, objects = matches.detections, matches.detections.truth, matches.objects[:, thresholds]
    cases = objects.shape[1]
    total, classes = np.zeros(len(weights)), np.zeros(len(weights))
    for label in range(len(truth.classes)):
        true = truth.images[(truth.labels == label) & ~truth.ignored]
        mine = np.flatnonzero(d.labels == label)
        mine = mine[np.argsort(-d.scores[mine], kind='stable')]
        step = max(1, BLOCK // max(len(mine), 1))
        for begin in range(0, len(weights), step):
            block = weights[begin : begin + step].astype(np.float32)
            positives = block[:, true].sum(1)
            some = positives > 0
            classes[begin : begin + step] += some
            weight = block[:, d.images[mine]]
            for case in range(cases):
                found = objects[mine, case]
                ap = _average_precision(weight, found >= 0, found != IGNORED, np.maximum(positives, 1))
                total[begin : begin + step] += np.where(some, ap, 0) / cases
    return np.divide(total, classes, out=np.full(len(total), np.nan), where=classes > 0)


def _average_precision(weight: np.ndarray, right: np.ndarray, counted: np.ndarray, positives: np.ndarray) -> np.ndarray:
    """AP of 101 recalls where detections, the best first, count ``weight`` (B, n) times: (B,)."""
    all_ = np.cumsum(weight * counted, 1)[:, right]
    if not all_.shape[1]:
        return np.zeros(len(weight))
    hits = np.cumsum(weight[:, right], 1)
    precision = np.divide(hits, all_, out=np.zeros_like(hits), where=all_ > 0)
    envelope = np.maximum.accumulate(precision[:, ::-1], 1)[:, ::-1]
    # each of the recalls 0, 0.01, … belongs to the first detection that comes to it
    reached = np.floor(hits / positives[:, None] * 100 + 1e-4) + (hits > 0)
    return (envelope * np.diff(reached, axis=1, prepend=0)).sum(1) / 101


def draw_images(images: int, replicates: int = REPLICATES, seed: int = 0) -> np.ndarray:
    """Count of each of I images in each of B resampled test sets of as many: (B, I)."""
    return np.random.default_rng(seed).multinomial(images, np.full(images, 1 / images), replicates)


@dataclass(frozen=True)
class Interval:
    """A difference with what is known of it.

    Attributes:
        mean: Mean over the seeds.
        low: Lower end of the interval, of 95 %.
        high: Its upper end.
        detectable: The smallest difference that would have been told from none in four of five such comparisons.
    """

    mean: float
    low: float
    high: float
    detectable: float


def interval(differences: Sequence[float], resampled: np.ndarray | None = None, seed: int = 0) -> Interval | None:
    """The 95 % interval of a paired difference over seeds and test images, by a hierarchical bootstrap.

    Test images are drawn with replacement, the same ones for all networks and seeds. Seeds are too few for that: their
    mean is drawn by Student's t of what they differ by on these images. So without images the interval is Student's,
    and with a single seed it is of the images alone.

    Args:
        differences: (S,), of each seed.
        resampled: (S, B), the same of resampled test images. Defaults to None: over the seeds alone.
        seed: Of the draws.

    Returns:
        None where there is but one seed and no images.
    """
    values = np.asarray(differences, float)
    number = len(values)
    if number < 2 and resampled is None:
        return None
    mean, freedom = float(values.mean()), number - 1
    if resampled is None:
        half = float(student.ppf(0.975, freedom) * values.std(ddof=1) / np.sqrt(number))
        low, high = mean - half, mean + half
    else:
        draws = resampled[:, ~np.isnan(resampled).any(0)]
        centre = draws.mean(0)
        if number > 1:
            random = np.random.default_rng(seed)
            centre = centre + random.standard_t(freedom, len(centre)) * draws.std(0, ddof=1) / np.sqrt(number)
        low, high = (float(end) for end in np.quantile(centre, [0.025, 0.975]))
    sure = student.ppf([0.975, POWER], freedom) if number > 1 else student.ppf([0.975, POWER], 1000)
    return Interval(mean, low, high, float((high - low) / 2 * sure.sum() / sure[0]))
