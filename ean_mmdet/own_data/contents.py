"""Contents of a config's data sets as MMDetection reads them: sizes of images, and of boxes by class."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from mmengine.config import Config

from ..datasets.held import Held, hold
from ..errors import InputError
from .parts import Part


@dataclass
class Contents:
    """Images and boxes of one split.

    Attributes:
        held: The data set.
        sizes: Width and height of each image in pixels, (N, 2).
        boxes: Width and height of each box in pixels, (M, 2); those marked difficult or as crowds aren't among them.
        labels: The class of each box, (M,).
        owners: The image of each box, (M,).
    """

    held: Held
    sizes: np.ndarray
    boxes: np.ndarray
    labels: np.ndarray
    owners: np.ndarray

    @property
    def images(self) -> int:
        """Number of images."""
        return len(self.sizes)


def read_contents(part: Part, dataset: dict, role: str) -> Contents:
    """Read a split as MMDetection does.

    Args:
        part: The split, for messages.
        dataset: Its data set as in a config.
        role: ``'train'``, ``'val'`` or ``'test'``.

    Raises:
        InputError: MMDetection can't read it, or it has no boxes to train on.
    """
    held = hold(Config(dict(default_scope='mmdet')), dataset, role)
    assert held is not None  # a data set of MMDetection's
    infos = held.kept
    boxes, labels, owners = [], [], []
    for number, info in enumerate(infos):
        for instance in info['instances']:
            if not instance['ignore_flag']:
                x1, y1, x2, y2 = instance['bbox']
                boxes.append((x2 - x1, y2 - y1))
                labels.append(instance['bbox_label'])
                owners.append(number)
    if not boxes and role == 'train':
        raise InputError(f'{part.name} has {len(infos)} images and not one box to train on')
    return Contents(
        held,
        np.array([(info['width'], info['height']) for info in infos], dtype=float).reshape(-1, 2),
        np.array(boxes, dtype=float).reshape(-1, 2),
        np.array(labels, dtype=int),
        np.array(owners, dtype=int),
    )
