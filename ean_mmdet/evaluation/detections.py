"""Detections and ground truth of a test set, in columns over the whole data set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Truth:
    """The ground truth of a test set of detections.

    Attributes:
        ids: The images' ids, ascending.
        paths: Their files.
        classes: Names of the classes.
        categories: Their ids.
        images: (G,), each object's number of an image, ascending.
        boxes: (G, 4), x, y, width, height in pixels.
        labels: (G,), numbers of classes.
        ignored: (G,), whether an object is a crowd, or difficult: what is found there counts neither way.
    """

    ids: Sequence[Any]
    paths: Sequence[Path]
    classes: Sequence[str]
    categories: Sequence[int]
    images: np.ndarray
    boxes: np.ndarray
    labels: np.ndarray
    ignored: np.ndarray

    @property
    def positives(self) -> np.ndarray:
        """(K,), objects to find of each class."""
        return np.bincount(self.labels[~self.ignored], minlength=len(self.classes))


@dataclass(frozen=True)
class Detections:
    """The detections of a data set beside its ground truth.

    Attributes:
        truth: The ground truth.
        images: (D,), each detection's number of an image, ascending.
        boxes: (D, 4), x, y, width, height in pixels; the best of an image first.
        scores: (D,).
        labels: (D,), numbers of classes.
    """

    truth: Truth
    images: np.ndarray
    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray

    def of_image(self, number: int) -> tuple[slice, slice]:
        """Slices of an image's detections and objects."""
        ends = [number, number + 1]
        return slice(*np.searchsorted(self.images, ends)), slice(*np.searchsorted(self.truth.images, ends))
