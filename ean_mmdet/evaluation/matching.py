"""Detections matched with ground truth once, by ``hotcoco`` as COCO's evaluation does, and what comes of these matches.

Everything is in columns over the whole data set: detections are sorted by image, then by score, the best first.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from hotcoco import COCO, COCOeval
from hotcoco.primitives import bbox_iou

from .detections import Detections

OVERLAP = 0.5  # of what is found, where it isn't COCO's ten thresholds
MOST = 100  # detections of a class in an image
NONE, IGNORED = -1, -2
BLOCK = 500  # images at a time whose matches are had as lists


@dataclass(frozen=True)
class Matches:
    """Detections matched with objects of their class.

    Attributes:
        detections: The detections.
        evaluation: hotcoco's evaluation of them.
    """

    detections: Detections
    evaluation: COCOeval

    @cached_property
    def objects(self) -> np.ndarray:
        """(D, 10), the number of the object that a detection found at each of COCO's thresholds.

        -1: none, -2: it counts neither way, being on what is ignored or beyond the 100 best of its class and image.
        """
        found = np.full((len(self.detections.scores), 10), IGNORED)
        for begin in range(0, len(self.detections.truth.paths), BLOCK):
            part = COCOeval(self.evaluation.coco_gt, self.evaluation.coco_dt, 'bbox')
            part.params = self.evaluation.params
            part.params.imgIds = self.evaluation.params.imgIds[begin : begin + BLOCK]
            part.evaluate()
            for entry in part.eval_imgs:
                if entry and entry['dtIds']:
                    of_image = np.where(entry['dtMatched'], np.array(entry['dtMatches']) - 1, NONE)
                    found[np.array(entry['dtIds']) - 1] = np.where(entry['dtIgnore'], IGNORED, of_image).T
        return found


def match_detections(detections: Detections, most: int = MOST) -> Matches:
    """Match each image's detections of a class, the best first, with the object of it that each overlaps the most.

    Args:
        detections: The detections.
        most: Detections of a class in an image that count. Defaults to 100, as for COCO's mAP.
    """
    d, truth = detections, detections.truth
    images = [dict(id=number, file_name=str(path), width=1, height=1) for number, path in enumerate(truth.paths)]
    categories = [dict(id=label, name=name) for label, name in enumerate(truth.classes)]
    coco = COCO.from_arrays(images, categories, truth.images, truth.labels, truth.boxes, iscrowd=truth.ignored)
    found = coco.load_res(np.column_stack([d.images, d.boxes, d.scores, d.labels]).astype(float))
    evaluation = COCOeval(coco, found, 'bbox')
    params = evaluation.params
    params.maxDets, params.areaRng, params.areaRngLbl = [most], [[0, 1e10]], ['all']
    evaluation.evaluate()
    evaluation.accumulate()
    return Matches(d, evaluation)


def curves(matches: Matches) -> np.ndarray:
    """Precision at each of COCO's ten thresholds, 101 recalls and K classes, (10, 101, K); NaN: nothing to find."""
    precision = (matches.evaluation.eval or {})['precision'][..., 0, 0]
    return np.where(precision < 0, np.nan, precision)


def class_precisions(matches: Matches) -> np.ndarray:
    """AP of each class (rows) at each of COCO's ten thresholds (columns); NaN where there is nothing to find."""
    return curves(matches).mean(1).T


def confusion(matches: Matches, score: float = 0.3) -> np.ndarray:
    """Count detections by class at an overlap of 0.5: rows the truth, columns the detection, last none.

    An object that no detection of its class found goes to the best detection of another class on it.

    Args:
        matches: The matches.
        score: Least score of a detection that counts. Defaults to 0.3.
    """
    d, truth, found = matches.detections, matches.detections.truth, matches.objects[:, 0]
    none, sure, free = len(truth.classes), d.scores >= score, ~truth.ignored
    matrix = np.zeros((none + 1, none + 1), int)
    free[found[sure & (found >= 0)]] = False
    np.add.at(matrix, (d.labels[sure & (found >= 0)],) * 2, 1)
    wrong = sure & (found == NONE)
    for number in np.unique(d.images[wrong]):
        mine, true = d.of_image(number)
        overlaps = bbox_iou(d.boxes[mine], truth.boxes[true], truth.ignored[true])
        for detection in np.flatnonzero(wrong[mine]):
            label, overlap = d.labels[mine][detection], overlaps[detection]
            candidates = np.flatnonzero((overlap >= OVERLAP) & free[true])
            if len(candidates):
                best = true.start + candidates[overlap[candidates].argmax()]
                free[best] = False
                matrix[truth.labels[best], label] += 1
            elif not (overlap[truth.ignored[true]] >= OVERLAP).any():  # what is on a crowd says nothing
                matrix[none, label] += 1
    np.add.at(matrix, (truth.labels[free], none), 1)
    return matrix


def mistakes(matches: Matches, score: float) -> np.ndarray:
    """Objects found, false detections and objects missed of each image, (I, 3), at least ``score`` sure."""
    d, truth, found = matches.detections, matches.detections.truth, matches.objects[:, 0]
    sure, number = d.scores >= score, len(truth.paths)
    right = np.bincount(d.images[sure & (found >= 0)], minlength=number)
    false = np.bincount(d.images[sure & (found == NONE)], minlength=number)
    objects = np.bincount(truth.images[~truth.ignored], minlength=number)
    return np.stack([right, false, objects - right], 1)
