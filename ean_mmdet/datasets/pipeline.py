"""Images as a config's test pipeline gives them to its model."""

from __future__ import annotations

from pathlib import Path

from mmengine.config import Config
from mmengine.dataset import Compose, pseudo_collate
from mmengine.registry import init_default_scope
from torch import nn


def preprocess(config: Config, preprocessor: nn.Module, path: Path) -> dict:
    """One image through the test pipeline and the model's data preprocessor.

    Args:
        config: The config; its test pipeline is taken without annotations.
        preprocessor: The model's.
        path: The image's file.

    Returns:
        ``inputs``, (1, 3, H, W), normalized and padded, and ``data_samples``, a list of one.
    """
    init_default_scope(config.get('default_scope', 'mmdet'))
    steps = [step for step in config.test_dataloader.dataset.pipeline if step['type'] != 'LoadAnnotations']
    # what a metric alone reads isn't there
    steps = [{key: value for key, value in step.items() if key != 'meta_keys'} for step in steps]
    return preprocessor(pseudo_collate([Compose(steps)(dict(img_path=str(path), img_id=0))]), False)
