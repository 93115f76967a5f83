"""A hook that sees to it, before training, that no batch norm gets a single value a channel."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from mmengine.dataset import InfiniteSampler, pseudo_collate
from mmengine.dist import get_world_size
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.data import DataLoader

from ..errors import InputError


@HOOKS.register_module()
class BatchNormCheckHook(Hook):
    """Stop before training where a batch norm would see one value a channel, of which there is no variance.

    PyTorch dies of that where it happens: in the first iteration at one image a GPU, at the end of an epoch whose last
    batch has one. SSDLite's last level is 1 × 1. Where a batch can have one image, one goes through the network in
    evaluation mode. Neither weights nor random numbers change.

    Raises:
        InputError: A batch norm that trains would see one value; the message names it and says what to do.
    """

    def before_train(self, runner: Runner) -> None:
        """Check the batches of the training data."""
        size, rest = batch_sizes(runner.train_dataloader)
        if 1 not in (size, rest):
            return
        model: Any = runner.model.module if is_model_wrapper(runner.model) else runner.model
        found = single_values(model, runner.train_dataloader.dataset)
        if not found:
            return
        kind = dict(model.named_modules())[found[0]]
        others = f' and {len(found) - 1} others' if len(found) > 1 else ''
        if size == 1:
            cause, remedy = 'a batch of one image', 'train_dataloader.batch_size=2 or more'
        else:
            cause, remedy = 'the last batch of an epoch, which is one image', 'train_dataloader.drop_last=True'
        raise InputError(
            f'the batch norm {found[0]} ({kind.num_features} channels){others} would see one value a channel in '
            f"{cause}, and cannot train on that. Set {remedy}; or, on several GPUs, sync_bn='torch'"
        )


def batch_sizes(loader: DataLoader) -> tuple[int, int]:
    """Return the samples of a batch, and of the last one of an epoch; 0 if that is as the others."""
    batches: Any = loader.batch_sampler
    if batches.drop_last or isinstance(batches.sampler, InfiniteSampler):
        return batches.batch_size, 0
    return batches.batch_size, len(batches.sampler) % batches.batch_size


def single_values(model: Any, dataset: Any) -> list[str]:
    """Names of the batch norms that train and get one value a channel from one image of a data set."""
    model.train()
    norms = {
        module: name
        for name, module in model.named_modules()
        if isinstance(module, _BatchNorm)
        and module.training
        and not (isinstance(module, nn.SyncBatchNorm) and get_world_size() > 1)
    }
    found: list[str] = []

    def note(module: Any, inputs: tuple[Tensor]) -> None:
        if inputs[0].numel() == module.num_features:
            found.append(norms[module])

    handles = [module.register_forward_pre_hook(note) for module in norms]
    model.eval()
    try:
        with torch.no_grad(), unchanged_random_numbers():
            data = model.data_preprocessor(pseudo_collate([dataset[0]]), training=True)
            model(**data, mode='loss')
    finally:
        for handle in handles:
            handle.remove()
        model.train()
    return list(dict.fromkeys(found))


@contextmanager
def unchanged_random_numbers() -> Iterator[None]:
    """Leave the generators of Python, NumPy and PyTorch as they were."""
    states = random.getstate(), np.random.get_state()
    with torch.random.fork_rng():
        try:
            yield
        finally:
            random.setstate(states[0])
            np.random.set_state(states[1])
