"""Predictions of ``tools/test.py --out`` beside their ground truth."""

from __future__ import annotations

import io
import pickle
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope

from ..errors import InputError


@dataclass(frozen=True)
class Detections:
    """An image's detections and ground truth.

    Attributes:
        path: The image's file.
        boxes: (D, 4), x1, y1, x2, y2 in pixels, the best first.
        scores: (D,).
        labels: (D,), numbers of classes.
        true_boxes: (G, 4).
        true_labels: (G,).
        ignored: (G,), whether a box is a crowd, or difficult: what is found there counts neither way.
    """

    path: Path
    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray
    true_boxes: np.ndarray
    true_labels: np.ndarray
    ignored: np.ndarray


# What predictions consist of.
ALLOWED = {
    ('_codecs', 'encode'),
    ('collections', 'OrderedDict'),
    ('torch._utils', '_rebuild_tensor_v2'),
    ('numpy', 'dtype'),
    ('numpy', 'ndarray'),
    ('numpy.core.multiarray', '_reconstruct'),
    ('numpy._core.multiarray', '_reconstruct'),
    ('numpy.core.multiarray', 'scalar'),
    ('numpy._core.multiarray', 'scalar'),
}


class _Unpickler(pickle.Unpickler):
    """Takes what predictions consist of, and runs no other code."""

    def find_class(self, module: str, name: str) -> object:
        if (module, name) == ('torch.storage', '_load_from_bytes'):
            return lambda data: torch.load(io.BytesIO(data), weights_only=True)
        if (module, name) not in ALLOWED:
            raise pickle.UnpicklingError(f'it asks for {module}.{name}')
        return super().find_class(module, name)


def read_predictions(path: Path, config: Config) -> tuple[list[Detections], list[str]]:
    """The detections of a test set, and the names of its classes.

    Args:
        path: The pickle of ``tools/test.py --out``. Code in it isn't run.
        config: The config; its test data set has the ground truth.

    Raises:
        InputError: The file isn't such a pickle, or of another data set.
    """
    try:
        with open(path, 'rb') as file:
            entries = _Unpickler(file).load()
        by_id = {entry['img_id']: entry['pred_instances'] for entry in entries}
    except (OSError, EOFError, pickle.UnpicklingError, KeyError, TypeError, AttributeError, RuntimeError) as error:
        raise InputError(f'{path} holds no detections of tools/test.py --out: {error}') from error
    from mmdet.registry import DATASETS

    init_default_scope('mmdet')
    dataset = DATASETS.build(config.test_dataloader.dataset)
    classes = list(dataset.metainfo['classes'])
    images = []
    for index in range(len(dataset)):
        info = dataset.get_data_info(index)
        if info['img_id'] not in by_id:
            raise InputError(f'{path} lacks image {info["img_id"]} of the test set; is it of another one?')
        found = {key: np.asarray(value) for key, value in by_id[info['img_id']].items()}
        order = np.argsort(-found['scores'], kind='stable')
        truth = info['instances']
        images.append(
            Detections(
                Path(info['img_path']),
                found['bboxes'].reshape(-1, 4)[order],
                found['scores'][order],
                found['labels'][order],
                np.array([entry['bbox'] for entry in truth], dtype=float).reshape(-1, 4),
                np.array([entry['bbox_label'] for entry in truth], dtype=int),
                np.array([entry['ignore_flag'] for entry in truth], dtype=bool),
            )
        )
    return images, classes
