"""Exported models, run by onnxruntime where a checkpoint's model would run: evaluation and inference stay the same."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from mmengine.model import BaseModel
from mmengine.registry import MODELS
from mmengine.structures import InstanceData
from torch import Tensor

from ..datasets.config_parts import is_classifier, scope_of
from ..errors import InputError
from .onnx_export import METADATA


def load_exported(path: str | Path) -> tuple[Any, dict]:
    """An onnxruntime session of an exported file, and its metadata.

    Raises:
        InputError: There is no such file, it is no ONNX model or truncated, or none that was exported here.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise InputError("running an ONNX file needs onnxruntime: pip install 'ean_mmdet[deploy]'") from error
    path = Path(path)
    if not path.is_file():
        raise InputError(f'no exported model at {path}')
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = torch.get_num_threads()
    providers = [
        name
        for name in ('CUDAExecutionProvider', 'CPUExecutionProvider')
        if name in onnxruntime.get_available_providers()
    ]
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=providers)
    except Exception as error:  # onnxruntime's exceptions have no common type of their own
        raise InputError(f'{path} is no ONNX model, or truncated: {str(error).splitlines()[0]}') from error
    text = session.get_modelmeta().custom_metadata_map.get(METADATA)
    if text is None:
        raise InputError(f'{path} has no metadata of ean_mmdet: export it by tools/export.py')
    return session, json.loads(text)


def padded(images: np.ndarray, size: tuple[int, int] | None) -> np.ndarray:
    """Images (N, 3, H, W) with zeros at their right and lower ends, to a height and width; None leaves them.

    Raises:
        InputError: They are larger.
    """
    if size is None or images.shape[2:] == size:
        return images
    if images.shape[2] > size[0] or images.shape[3] > size[1]:
        raise InputError(
            f'the exported model takes images of {size[0]} × {size[1]} (height × width), not '
            f'{images.shape[2]} × {images.shape[3]}: export it with another --shape'
        )
    return np.pad(images, ((0, 0), (0, 0), (0, size[0] - images.shape[2]), (0, size[1] - images.shape[3])))


class Exported(BaseModel):
    """Common parts of exported models.

    Args:
        path: The ONNX file.
        data_preprocessor: As the model has it that was exported.
    """

    task = ''

    def __init__(self, path: str, data_preprocessor: dict) -> None:
        super().__init__(data_preprocessor)
        self.session, self.about = load_exported(path)
        if self.about['task'] != self.task:
            raise InputError(f'{path} is of the task {self.about["task"]!r}, and {self.task!r} is wanted')
        self.dataset_meta = dict(classes=self.about['classes'])

    def run(self, images: Tensor, **others: np.ndarray) -> list[Tensor]:
        """The outputs."""
        size = self.session.get_inputs()[0].shape[2:]  # names where any will do
        fixed = tuple(size) if all(isinstance(side, int) for side in size) else None
        outputs = self.session.run(None, dict(images=padded(images.cpu().numpy(), fixed), **others))
        return [torch.from_numpy(output) for output in outputs]


@MODELS.register_module()
class ExportedDetector(Exported):
    """A detector that was exported. Predicts as MMDetection's do, and can't be trained."""

    task = 'detection'

    def forward(self, inputs: Tensor, data_samples: Sequence, mode: str = 'predict') -> list:
        """Predict: ``pred_instances`` in pixels of the original images.

        Raises:
            ValueError: ``mode`` is another one than ``'predict'``.
        """
        if mode != 'predict':
            raise ValueError(f'ExportedDetector: an exported model only predicts, got mode={mode!r}')
        sizes = np.array([sample.img_shape[:2] for sample in data_samples], dtype=np.float32)
        for sample, boxes, scores, labels in zip(data_samples, *self.run(inputs, sizes=sizes)):
            found = labels >= 0
            factor = boxes.new_tensor(sample.scale_factor).repeat(2)
            sample.pred_instances = InstanceData(
                bboxes=boxes[found] / factor, scores=scores[found], labels=labels[found]
            )
        return list(data_samples)


@MODELS.register_module()
class ExportedClassifier(Exported):
    """A classifier that was exported. Predicts as MMPretrain's do, and can't be trained."""

    task = 'classification'

    def forward(self, inputs: Tensor, data_samples: Sequence, mode: str = 'predict') -> list:
        """Predict: ``pred_score`` and ``pred_label``.

        Raises:
            ValueError: ``mode`` is another one than ``'predict'``.
        """
        if mode != 'predict':
            raise ValueError(f'ExportedClassifier: an exported model only predicts, got mode={mode!r}')
        (scores,) = self.run(inputs)
        for sample, score in zip(data_samples, scores):
            sample.set_pred_score(score).set_pred_label(score.argmax(dim=0))
        return list(data_samples)


def use_exported(config: Config, path: str) -> None:
    """Have a config's tools run an exported file in its model's place.

    Raises:
        InputError: As :func:`load_exported`.
    """
    classifier = is_classifier(config)
    preprocessor = dict(config.model.get('data_preprocessor') or config.get('data_preprocessor') or {})
    preprocessor.setdefault('type', 'mmpretrain.ClsDataPreprocessor' if classifier else 'mmdet.DetDataPreprocessor')
    if isinstance(preprocessor['type'], str) and '.' not in preprocessor['type']:
        preprocessor['type'] = f'{scope_of(config)}.{preprocessor["type"]}'
    kind = ExportedClassifier if classifier else ExportedDetector
    load_exported(path)  # at once, and not when the runner is built
    config.model = dict(type=kind.__name__, path=str(path), data_preprocessor=preprocessor)
    config.load_from = None
