"""Image files, and what a config's test pipeline makes of them for its model."""

from __future__ import annotations

from pathlib import Path

import cv2
import mmcv
import numpy as np
from mmengine.config import Config
from mmengine.dataset import Compose, pseudo_collate
from mmengine.registry import init_default_scope
from torch import nn

from ..errors import InputError
from .config_parts import pipeline_of, scope_of, type_name


def read_image(path: Path) -> np.ndarray:
    """An image (H, W, 3), RGB, as mmcv reads it.

    Raises:
        InputError: It isn't one that can be read.
    """
    if not path.is_file():
        raise InputError(f'{path} is {"a folder" if path.is_dir() else "a link to nothing"}')
    try:
        image = mmcv.imread(str(path))
    except (OSError, cv2.error) as error:
        raise InputError(f'{path} {"cannot be read" if path.stat().st_size else "is empty"}') from error
    if image is None:
        raise InputError(f'{path} is no image, or truncated')
    return mmcv.bgr2rgb(image)


def preprocess(config: Config, preprocessor: nn.Module, path: Path) -> dict:
    """One image through the test pipeline and the model's data preprocessor.

    Args:
        config: The config; its test pipeline is taken without annotations.
        preprocessor: The model's.
        path: The image's file.

    Returns:
        ``inputs``, (1, 3, H, W), normalized and padded, and ``data_samples``, a list of one.
    """
    init_default_scope(scope_of(config))
    steps = [step for step in pipeline_of(config) if not type_name(step).endswith('Annotations')]
    # what a metric alone reads isn't there
    steps = [{key: value for key, value in step.items() if key != 'meta_keys'} for step in steps]
    return preprocessor(pseudo_collate([Compose(steps)(dict(img_path=str(path), img_id=0))]), False)
