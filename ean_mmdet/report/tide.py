"""Which kinds of error cost the most AP: Bolya, Foley, Hays and Hoffman, 'TIDE', ECCV 2020, Section 2.

Each false detection is of one kind; what a kind costs is how much AP@.5 rises when an oracle mends it alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .matching import average_precision, match, overlaps
from .predictions import Detections

FOREGROUND, BACKGROUND = 0.5, 0.1  # the paper's t_f and t_b
KINDS = {
    'classification': 'on an object, of another class',
    'localization': 'of the right class, overlapping by 0.1 to 0.5 only',
    'both': 'of another class, overlapping by 0.1 to 0.5 only',
    'duplicate': 'on an object that a better detection has found',
    'background': 'on nothing',
    'missed': 'objects without any detection that one of the above would fix',
}


@dataclass(frozen=True)
class _Entry:
    """A detection with its kind of error (None: right) and the box, (image, number), that mending gives it."""

    score: float
    label: int
    kind: str | None = None
    box: tuple[int, int] | None = None
    box_label: int = -1


@dataclass(frozen=True)
class Errors:
    """What the errors of a detector are.

    Attributes:
        ap: Mean AP@.5 of the classes that the ground truth has.
        cost: What each kind costs of it, in the same unit.
        count: How many there are of each.
    """

    ap: float
    cost: dict[str, float]
    count: dict[str, int]


def error_kinds(images: Sequence[Detections], classes: int) -> Errors:
    """Sort the errors into kinds, and say what each costs."""
    entries, positives, missed = [], np.zeros(classes, dtype=int), np.zeros(classes, dtype=int)
    used = set()
    for number, image in enumerate(images):
        found, by = match(image, FOREGROUND)
        true = ~image.ignored
        np.add.at(positives, image.true_labels[true], 1)
        ious = np.where(true, overlaps(image.boxes, image.true_boxes), 0)
        covered = by >= 0
        used |= {(number, int(index)) for index in np.flatnonzero(covered)}
        for index in np.flatnonzero(found > -2):
            label, score = int(image.labels[index]), float(image.scores[index])
            if found[index] >= 0:
                entries.append(_Entry(score, label))
                continue
            kind, box = _kind(ious[index], image.true_labels == label)
            if kind in ('classification', 'localization'):
                covered[box] = True
            box_label = int(image.true_labels[box]) if box >= 0 else -1
            entries.append(_Entry(score, label, kind, (number, box) if box >= 0 else None, box_label))
        np.add.at(missed, image.true_labels[true & ~covered], 1)
    plain = _ap(entries, positives, used)
    cost = {kind: _ap(entries, positives, used, kind) - plain for kind in KINDS if kind != 'missed'}
    cost['missed'] = _ap(entries, positives - missed, used) - plain
    count = {kind: sum(entry.kind == kind for entry in entries) for kind in KINDS}
    count['missed'] = int(missed.sum())
    return Errors(plain, cost, count)


def _kind(ious: np.ndarray, same: np.ndarray) -> tuple[str, int]:
    """The kind of a false detection, and the box that it should have been on."""

    def best(allowed: np.ndarray) -> tuple[float, int]:
        ranked = np.where(allowed, ious, 0)
        return (float(ranked.max()), int(ranked.argmax())) if len(ranked) else (0.0, -1)

    own, own_box = best(same)
    other, other_box = best(~same)
    if BACKGROUND <= own < FOREGROUND:
        return 'localization', own_box
    if other >= FOREGROUND:
        return 'classification', other_box
    if own >= FOREGROUND:
        return 'duplicate', own_box
    if other > BACKGROUND:
        return 'both', -1
    return 'background', -1


def _ap(entries: Sequence[_Entry], positives: np.ndarray, used: set, fixed: str | None = None) -> float:
    """Mean AP, where one kind of error is fixed: set right, or dropped where its object has been found already."""
    taken = set(used)
    scores: list[list[float]] = [[] for _ in positives]
    right: list[list[bool]] = [[] for _ in positives]
    for entry in sorted(entries, key=lambda entry: -entry.score):
        label, hit = entry.label, entry.kind is None
        if fixed is not None and entry.kind == fixed:
            if fixed not in ('classification', 'localization') or entry.box in taken:
                continue
            taken.add(entry.box)
            label, hit = entry.box_label, True
        scores[label].append(entry.score)
        right[label].append(hit)
    values = [
        average_precision(np.array(s), np.array(r, dtype=bool), int(count))
        for s, r, count in zip(scores, right, positives)
    ]
    return float(np.nanmean(values)) if not np.isnan(values).all() else float('nan')
