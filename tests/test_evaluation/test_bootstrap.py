"""Resampled metrics against data sets with images repeated, intervals against Student's, and how often they hold."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import ttest_rel

from ean_mmdet.evaluation.bootstrap import draw_images, interval, mean_precisions
from ean_mmdet.evaluation.detections import Detections
from ean_mmdet.evaluation.matching import class_precisions, match_detections

from .test_matching import random_images


def repeated(d, times):
    """A data set with each image as often as ``times`` says; the copies of an image stand beside each other."""
    found = [np.concatenate([np.flatnonzero(d.images == n)] * t or [[]]) for n, t in enumerate(times)]
    true = [np.concatenate([np.flatnonzero(d.truth.images == n)] * t or [[]]) for n, t in enumerate(times)]
    numbers = np.cumsum([0, *times])

    def images(parts, column):
        counts = [np.bincount(column, minlength=len(times))[n] for n in range(len(times))]
        return np.concatenate([
            np.repeat(np.arange(numbers[n], numbers[n + 1]), counts[n]) for n in range(len(times))
        ])  # fmt: skip

    one, two = (np.concatenate(parts).astype(int) for parts in (found, true))
    truth = replace(
        d.truth, ids=range(sum(times)), paths=[None] * sum(times), images=images(true, d.truth.images),
        boxes=d.truth.boxes[two], labels=d.truth.labels[two], ignored=d.truth.ignored[two],
    )  # fmt: skip
    return Detections(truth, images(found, d.images), d.boxes[one], d.scores[one], d.labels[one])


@pytest.mark.parametrize('seed', range(3))
def test_an_image_that_counts_twice_is_there_twice(seed):
    d = random_images(seed, number=20)
    d = replace(d, scores=np.random.default_rng(seed).permutation(len(d.scores)) / len(d.scores))  # no equal ones
    order = np.lexsort((-d.scores, d.images))
    d = replace(d, scores=d.scores[order], boxes=d.boxes[order], labels=d.labels[order])
    matches = match_detections(d)
    draws = draw_images(20, 5, seed)
    assert (draws.sum(1) == 20).all() and (draws == 0).any() and (draws > 1).any()
    for thresholds in (slice(None), slice(0, 1)):
        ours = mean_precisions(matches, np.concatenate([np.ones((1, 20), int), draws]), thresholds)
        for weights, value in zip([[1] * 20, *draws.tolist()], ours):
            expected = np.nanmean(class_precisions(match_detections(repeated(d, weights)))[:, thresholds])
            # copies are found at the same score, so that a point of the curve is one step and not several
            assert value == pytest.approx(expected, abs=0.02)
    assert ours[0] == pytest.approx(np.nanmean(class_precisions(matches)[:, :1]), abs=1e-6)


def test_over_seeds_alone_it_is_students():
    plain, other = np.array([50.0, 52.0, 51.0]), np.array([55.0, 56.0, 57.5])
    expected = ttest_rel(other, plain).confidence_interval(0.95)
    found = interval(other - plain)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))
    assert found.mean == pytest.approx(5.1666667) and found.detectable > (found.high - found.low) / 2
    assert interval([1.0]) is None
    # images that all say the same add nothing
    found = interval(other - plain, np.repeat((other - plain)[:, None], 20000, 1))
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), rel=0.05)


def test_over_images_alone_it_is_the_percentiles():
    resampled = np.random.default_rng(0).normal(1, 0.5, (1, 20000))
    found = interval([1.0], resampled)
    assert (found.low, found.high) == pytest.approx((1 - 0.98, 1 + 0.98), abs=0.03)
    # 80 % power at a two-sided level of 5 %: 2.8 standard errors
    assert found.detectable == pytest.approx(2.8 * 0.5, rel=0.03)


def test_the_interval_holds_the_truth_as_often_as_it_says():
    """A true difference of 0.3, seeds that scatter by 1 and images whose own differences scatter by 5."""
    random = np.random.default_rng(0)
    seeds, images, held = 4, 60, 0
    draws = draw_images(images, 300) / images
    for _ in range(400):
        of_images = 0.3 + random.normal(0, 5, images)
        each = of_images + random.normal(0, 1, (seeds, 1)) + random.normal(0, 2, (seeds, images))
        found = interval(each.mean(1), each @ draws.T)
        held += found.low <= 0.3 <= found.high
    assert 0.91 < held / 400 < 0.985
