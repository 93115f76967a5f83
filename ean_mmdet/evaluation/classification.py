"""Predictions of a classifier on its test set."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.config import Config

from ..datasets.pipeline import read_image
from ..errors import InputError
from .results import build_dataset, read_results


@dataclass(frozen=True)
class Classified:
    """A classifier's results beside the truth.

    Attributes:
        dataset: The test set.
        classes: Names of the classes.
        truth: (N,), numbers of the true classes.
        best: (N,), those of the best ones.
        scores: (N,), their scores.
        among: (N,), whether the true class is among those that were written, the five best.
    """

    dataset: Any
    classes: list[str]
    truth: np.ndarray
    best: np.ndarray
    scores: np.ndarray
    among: np.ndarray

    @property
    def right(self) -> np.ndarray:
        """(N,), whether the best class is the true one."""
        return self.best == self.truth

    def confusion(self) -> np.ndarray:
        """Count of each pair: rows are the true class, columns the best class."""
        matrix = np.zeros((len(self.classes),) * 2, int)
        np.add.at(matrix, (self.truth, self.best), 1)
        return matrix

    def image(self, number: int) -> tuple[str, np.ndarray]:
        """An image's name and its pixels, (H, W, 3), RGB."""
        info = self.dataset.get_data_info(number)
        path = info.get('img_path')
        return (Path(path).name, read_image(Path(path))) if path else (f'image {number}', info['img'])


def read_classified(path: Path, config: Config) -> Classified:
    """The results of a classifier on its config's test set.

    Args:
        path: What ``tools/test.py --out`` wrote.
        config: The config; its test data set has the truth.

    Raises:
        InputError: The file isn't such results, or those of another data set.
    """
    entries, _ = read_results(path)
    dataset = build_dataset(config)
    truth = np.array([dataset.get_data_info(index)['gt_label'] for index in range(len(dataset))], int).reshape(-1)
    images = np.array([entry['image_id'] for entry in entries])
    if sorted(set(images.tolist())) != list(range(len(truth))):
        raise InputError(f'{path} is not of the {len(truth)} images of the test set; is it of another one?')
    labels = np.array([entry['category_id'] for entry in entries], int)
    scores = np.array([entry['score'] for entry in entries], float)
    order = np.lexsort((-scores, images))
    first = order[np.unique(images[order], return_index=True)[1]]
    among = np.zeros(len(truth), bool)
    among[images[labels == truth[images]]] = True
    return Classified(dataset, list(dataset.metainfo['classes']), truth, labels[first], scores[first], among)
