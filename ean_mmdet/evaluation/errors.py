"""Kinds of error by the AP that they cost: Bolya, Foley, Hays and Hoffman, 'TIDE', ECCV 2020, Section 2.

Each false detection is of one kind; what a kind costs is how much AP@.5 rises when an oracle mends it alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .matching import IGNORED, LEAST, NONE, Matches, Pairs, average_precisions

FOREGROUND, BACKGROUND = 0.5, LEAST  # the paper's t_f and t_b
KINDS = {
    'classification': 'on an object, of another class',
    'localization': 'of the right class, overlapping by 0.1 to 0.5 only',
    'both': 'of another class, overlapping by 0.1 to 0.5 only',
    'duplicate': 'on an object that a better detection has found',
    'background': 'on nothing',
    'missed': 'objects without any detection that one of the above would fix',
}


@dataclass(frozen=True)
class Errors:
    """Errors of a detector.

    Attributes:
        ap: Mean AP@.5 of the classes that the ground truth has.
        cost: What each kind costs of it, in the same unit.
        count: How many there are of each.
    """

    ap: float
    cost: dict[str, float]
    count: dict[str, int]


def error_kinds(matches: Matches) -> Errors:
    """Sort the errors into kinds, and say what each costs."""
    d, found = matches.detections, matches.objects[:, 0]
    pairs = matches.pairs.where(~d.ignored[matches.pairs.true])
    same = d.labels[pairs.found] == d.true_labels[pairs.true]
    (own, own_object), (other, other_object) = (_most(pairs.where(chosen), len(found)) for chosen in (same, ~same))
    wrong = found == NONE
    # the first that holds
    conditions = {
        'localization': (own >= BACKGROUND) & (own < FOREGROUND),
        'classification': other >= FOREGROUND,
        'duplicate': own >= FOREGROUND,
        'both': other > BACKGROUND,
        'background': np.ones_like(wrong),
    }
    kinds, left = {}, wrong
    for kind, holds in conditions.items():
        kinds[kind] = left & holds
        left = left & ~holds
    # what mending makes of a detection
    mended = {'localization': own_object, 'classification': other_object}
    covered = np.zeros(len(d.true_labels) + 1, bool)  # one more, that -1 is
    covered[found[found >= 0]] = True
    used, true_labels = covered.copy(), np.append(d.true_labels, NONE)
    for kind, objects in mended.items():
        covered[objects[kinds[kind]]] = True
    missed = ~d.ignored & ~covered[:-1]

    def mean(right: np.ndarray, counted: np.ndarray, labels: np.ndarray, positives: np.ndarray) -> float:
        values = average_precisions(d.scores, labels, right[:, None], counted[:, None], positives)
        return float(np.nanmean(values)) if not np.isnan(values).all() else float('nan')

    right, counted = found >= 0, found != IGNORED
    plain = mean(right, counted, d.labels, d.positives)
    cost = {}
    for kind in KINDS:
        if kind == 'missed':
            rest = d.positives - np.bincount(d.true_labels[missed], minlength=len(d.classes))
            cost[kind] = mean(right, counted, d.labels, rest) - plain
            continue
        kept, labels = np.zeros_like(wrong), d.labels
        if kind in mended:
            objects = mended[kind]
            # an object that has been found already, or mended by a better detection, isn't found again
            candidates = np.flatnonzero(kinds[kind] & ~used[objects])
            candidates = candidates[np.argsort(-d.scores[candidates], kind='stable')]
            kept[candidates[np.unique(objects[candidates], return_index=True)[1]]] = True
            labels = np.where(kept, true_labels[objects], labels)
        cost[kind] = mean(right | kept, counted & (~kinds[kind] | kept), labels, d.positives) - plain
    return Errors(plain, cost, {kind: int((missed if kind == 'missed' else kinds[kind]).sum()) for kind in KINDS})


def _most(pairs: Pairs, number: int) -> tuple[np.ndarray, np.ndarray]:
    """The most that each detection overlaps, (D,), and the object, -1 for none; the first of equals."""
    pairs = pairs.where(np.lexsort((pairs.true, -pairs.overlap, pairs.found)))
    found, first = np.unique(pairs.found, return_index=True)
    most, objects = np.zeros(number), np.full(number, NONE)
    most[found], objects[found] = pairs.overlap[first], pairs.true[first]
    return most, objects
