"""Detections matched with ground truth once, as COCO's evaluation does, and what comes of these matches.

Everything is in columns over the whole data set: detections are sorted by image, then by score, the best first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path

import numpy as np

RECALLS = np.linspace(0, 1, 101)
THRESHOLDS = np.linspace(0.5, 0.95, 10)
MOST = 100  # detections of a class in an image
LEAST = 0.1  # overlaps below are none
NONE, IGNORED = -1, -2
BLOCK = 2_000_000  # pairs that are looked at at a time


@dataclass(frozen=True)
class Detections:
    """The detections of a data set, and its ground truth.

    Attributes:
        paths: The images' files, in the order of the images' ids.
        classes: Names of the classes.
        images: (D,), each detection's number of an image, ascending.
        boxes: (D, 4), x, y, width, height in pixels; the best of an image first.
        scores: (D,).
        labels: (D,), numbers of classes.
        true_images: (G,), ascending.
        true_boxes: (G, 4).
        true_labels: (G,).
        ignored: (G,), whether an object is a crowd, or difficult: what is found there counts neither way.
    """

    paths: Sequence[Path]
    classes: Sequence[str]
    images: np.ndarray
    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray
    true_images: np.ndarray
    true_boxes: np.ndarray
    true_labels: np.ndarray
    ignored: np.ndarray

    @cached_property
    def positives(self) -> np.ndarray:
        """(K,), objects to find of each class."""
        return np.bincount(self.true_labels[~self.ignored], minlength=len(self.classes))

    def of_image(self, number: int) -> tuple[slice, slice]:
        """Slices of an image's detections and objects."""
        first, second = (
            slice(*np.searchsorted(column, [number, number + 1])) for column in (self.images, self.true_images)
        )
        return first, second


@dataclass(frozen=True)
class Pairs:
    """Detections and objects that overlap by a tenth at least.

    Attributes:
        found: (P,), ascending numbers of detections.
        true: (P,), numbers of objects.
        overlap: (P,), intersection over union; over the detection's area where the object is ignored.
    """

    found: np.ndarray
    true: np.ndarray
    overlap: np.ndarray

    def where(self, chosen: np.ndarray) -> Pairs:
        """Some of the pairs."""
        return Pairs(self.found[chosen], self.true[chosen], self.overlap[chosen])


@dataclass(frozen=True)
class Matches:
    """Detections matched with objects of their class.

    Attributes:
        detections: The detections.
        pairs: What overlaps.
        objects: (D, 10), at each of COCO's thresholds the number of the object that a detection found; -1: none, -2:
            it counts neither way, being on what is ignored or beyond the 100 best of its class and image.
    """

    detections: Detections
    pairs: Pairs
    objects: np.ndarray


def match(detections: Detections) -> Matches:
    """Match each image's detections of a class, the best first, with the object of it that each overlaps the most."""
    d, pairs = detections, overlapping(detections)
    same = pairs.where((d.labels[pairs.found] == d.true_labels[pairs.true]) & (pairs.overlap >= THRESHOLDS[0]))
    rank = ranks(d.images * len(d.classes) + d.labels)
    same = same.where(rank[same.found] < MOST)
    # of equal overlaps COCO takes the last
    order = np.lexsort((-same.true, -same.overlap, d.ignored[same.true], same.found, rank[same.found]))
    same = same.where(order)
    allowed = same.overlap[:, None] >= np.minimum(THRESHOLDS, 1 - 1e-10)
    objects = assign(same, rank, allowed, d.ignored, len(d.scores))
    objects[np.append(d.ignored, False)[objects]] = IGNORED  # -1 is the last, that was added
    objects[rank >= MOST] = IGNORED
    return Matches(d, pairs, objects)


def overlapping(detections: Detections) -> Pairs:
    """The pairs of detections and objects of an image that overlap."""
    d = detections
    number = np.bincount(d.true_images, minlength=len(d.paths))[d.images]  # of objects beside each detection
    first = np.searchsorted(d.true_images, d.images)
    ends = np.cumsum(number)
    parts, begin = [], 0
    while begin < len(number):
        before = ends[begin - 1] if begin else 0
        end = max(int(np.searchsorted(ends, before + BLOCK)), begin + 1)
        found = np.repeat(np.arange(begin, end), number[begin:end])
        inside = np.arange(len(found)) - np.repeat(ends[begin:end] - number[begin:end] - before, number[begin:end])
        true = first[found] + inside
        overlap = overlaps(d.boxes[found], d.true_boxes[true], d.ignored[true])
        near = overlap >= LEAST
        parts.append((found[near], true[near], overlap[near]))
        begin = end
    if not parts:
        return Pairs(np.zeros(0, int), np.zeros(0, int), np.zeros(0))
    return Pairs(*map(np.concatenate, zip(*parts)))


def overlaps(boxes: np.ndarray, others: np.ndarray, ignored: np.ndarray) -> np.ndarray:
    """Intersection over union of boxes (P, 4) with others, pair by pair, by pycocotools' formula."""
    corner = np.minimum(boxes[:, :2] + boxes[:, 2:], others[:, :2] + others[:, 2:])
    sides = np.maximum(corner - np.maximum(boxes[:, :2], others[:, :2]), 0)
    common, area = sides[:, 0] * sides[:, 1], boxes[:, 2] * boxes[:, 3]
    union = np.where(ignored, area, area + others[:, 2] * others[:, 3] - common)
    return np.divide(common, union, out=np.zeros_like(common), where=common > 0)


def ranks(groups: np.ndarray) -> np.ndarray:
    """The place of each entry among those of its group, from 0 on."""
    order = np.argsort(groups, kind='stable')
    ordered = groups[order]
    begins = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]]) if len(groups) else np.zeros(0, int)
    places = np.arange(len(groups)) - np.repeat(begins, np.diff(np.r_[begins, len(groups)]))
    rank = np.empty_like(places)
    rank[order] = places
    return rank


def assign(pairs: Pairs, rank: np.ndarray, allowed: np.ndarray, ignored: np.ndarray, number: int) -> np.ndarray:
    """Give each detection the first of its objects that is allowed and that no better detection has.

    All groups are worked on at once: in a round the detections of one rank.

    Args:
        pairs: The pairs, sorted by the detection's rank, the detection, and what it prefers.
        rank: (D,), a detection's place in its group; groups have no object in common.
        allowed: (P, T), whether the pair may be matched, in each of T cases.
        ignored: (G,), objects that any number of detections can have.
        number: D.

    Returns:
        (D, T), numbers of objects, or -1.
    """
    cases = allowed.shape[1]
    objects = np.full((number, cases), NONE)
    taken = np.zeros((len(ignored), cases), bool)
    rounds = rank[pairs.found]
    for begin, end in zip(*_runs(rounds)):
        found, true = pairs.found[begin:end], pairs.true[begin:end]
        starts = _runs(found)[0]
        free = allowed[begin:end] & ~taken[true]
        place = np.where(free, np.arange(end - begin)[:, None], end - begin)
        best = np.minimum.reduceat(place, starts, axis=0)
        which, case = np.nonzero(best < end - begin)
        chosen = true[best[which, case]]
        objects[found[starts][which], case] = chosen
        taken[chosen, case] = ~ignored[chosen]
    return objects


def _runs(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return where runs of equal values begin and end."""
    begins = np.flatnonzero(np.r_[True, values[1:] != values[:-1]]) if len(values) else np.zeros(0, int)
    return begins, np.r_[begins[1:], len(values)]


def average_precisions(
    scores: np.ndarray, labels: np.ndarray, right: np.ndarray, counted: np.ndarray, positives: np.ndarray
) -> np.ndarray:
    """AP of each class in each of T cases, of 101 recalls: (K, T); NaN where there is nothing to find.

    Args:
        scores: (D,), in the order that decides between equal ones.
        labels: (D,).
        right: (D, T), whether an object was found.
        counted: (D, T), whether the detection counts at all.
        positives: (K,), objects to find.
    """
    order = np.lexsort((-scores, labels))
    bounds = np.searchsorted(labels[order], np.arange(len(positives) + 1))
    result = np.full((len(positives), right.shape[1]), np.nan)
    for label, (begin, end) in enumerate(pairwise(bounds)):
        if not positives[label]:
            continue
        mine = order[begin:end]
        result[label] = 0
        hits, all_ = np.cumsum(right[mine], 0), np.cumsum(counted[mine], 0)
        precision = hits / np.maximum(all_, 1)
        envelope = np.maximum.accumulate(precision[::-1], 0)[::-1]
        for case in range(right.shape[1] if len(mine) else 0):
            at = np.searchsorted(hits[:, case] / positives[label], RECALLS, side='left')
            result[label, case] = np.append(envelope[:, case], 0)[at].mean()
    return result


def class_precisions(matches: Matches) -> np.ndarray:
    """AP of each class (rows) at each of COCO's ten thresholds (columns)."""
    d, objects = matches.detections, matches.objects
    return average_precisions(d.scores, d.labels, objects >= 0, objects != IGNORED, d.positives)


def precision_recall(matches: Matches, label: int) -> tuple[np.ndarray, np.ndarray]:
    """Precision and recall of a class at an overlap of 0.5, down to each of its detections."""
    d, objects = matches.detections, matches.objects[:, 0]
    mine = np.flatnonzero((d.labels == label) & (objects != IGNORED))
    hits = np.cumsum(objects[mine[np.argsort(-d.scores[mine], kind='stable')]] >= 0)
    return hits / np.arange(1, len(hits) + 1), hits / max(d.positives[label], 1)


def confusion(matches: Matches, score: float = 0.3) -> np.ndarray:
    """Count detections by class at an overlap of 0.5: rows the truth, columns the detection, last none.

    An object that no detection of its class found goes to the best detection of another class on it.

    Args:
        matches: The matches.
        score: Least score of a detection that counts. Defaults to 0.3.
    """
    d, found = matches.detections, matches.objects[:, 0]
    none = len(d.classes)
    matrix = np.zeros((none + 1, none + 1), int)
    sure = d.scores >= score
    free = ~d.ignored
    free[found[sure & (found >= 0)]] = False
    np.add.at(matrix, (d.labels[sure & (found >= 0)],) * 2, 1)
    wrong = sure & (found == NONE)
    pairs = matches.pairs.where((matches.pairs.overlap >= THRESHOLDS[0]) & wrong[matches.pairs.found])
    pairs = pairs.where(free[pairs.true] | d.ignored[pairs.true])
    rank = ranks(d.images)
    pairs = pairs.where(np.lexsort((-pairs.overlap, d.ignored[pairs.true], pairs.found, rank[pairs.found])))
    objects = assign(pairs, rank, np.ones((len(pairs.found), 1), bool), d.ignored, len(d.scores))[:, 0]
    taken = wrong & ~np.append(d.ignored, True)[objects]
    np.add.at(matrix, (d.true_labels[objects[taken]], d.labels[taken]), 1)
    free[objects[taken]] = False
    np.add.at(matrix, (none, d.labels[wrong & (objects < 0)]), 1)
    np.add.at(matrix, (d.true_labels[free], none), 1)
    return matrix


def mistakes(matches: Matches, score: float) -> np.ndarray:
    """Objects found, false detections and objects missed of each image, (I, 3), at least ``score`` sure."""
    d, found = matches.detections, matches.objects[:, 0]
    sure, number = d.scores >= score, len(d.paths)
    right = np.bincount(d.images[sure & (found >= 0)], minlength=number)
    false = np.bincount(d.images[sure & (found == NONE)], minlength=number)
    objects = np.bincount(d.true_images[~d.ignored], minlength=number)
    return np.stack([right, false, objects - right], 1)
