"""Estimate of a run's time on this machine, by a few steps of it."""

from __future__ import annotations

import copy
import time
from itertools import islice
from statistics import median
from typing import Any

import torch
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.registry import DefaultScope
from mmengine.runner import Runner

from ..engine import build_model

STEPS = 3


def estimate(config: Config) -> float:
    """Seconds of a config's training, validations and test, by a few batches of each on one process.

    Args:
        config: The config.
    """
    config = copy.deepcopy(config)
    device = get_device()
    with DefaultScope.overwrite_default_scope(config.get('default_scope', 'mmdet')):
        for name in ('train_dataloader', 'test_dataloader'):
            config[name].update(num_workers=0, persistent_workers=False)
        training, testing = (
            Runner.build_dataloader(config[k], seed=0) for k in ('train_dataloader', 'test_dataloader')
        )
        model: Any = build_model(config).to(device)

        def step(batch: dict) -> None:
            data = model.data_preprocessor(batch, True)
            losses, _ = model.parse_losses(model(**data, mode='loss'))
            losses.backward()

        def test(batch: dict) -> None:
            with torch.no_grad():
                model.test_step(batch)

        a_step = _seconds(training, step)
        model.eval()
        a_test = _seconds(testing, test) * len(testing)
    loop = config.train_cfg
    steps = loop.get('max_iters') or loop.max_epochs * len(training)
    interval = loop.get('val_interval', 1)
    validations = (loop.get('max_iters') or loop.max_epochs) // interval if config.get('val_dataloader') else 0
    return steps * a_step + (validations + 1) * a_test


def _seconds(loader, run) -> float:
    """Median seconds of a batch, its loading included, after the first."""
    taken, begin = [], time.perf_counter()
    for batch in islice(loader, STEPS + 1):
        run(batch)
        taken.append(time.perf_counter() - begin)
        begin = time.perf_counter()
    return median(taken[1:] or taken)
