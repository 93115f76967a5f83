"""The same images, augmented alike, and the same randomness in each step, for every network and after a resumption.

PyTorch's generators go on from wherever building a network, the workers and a resumption have left them. Here a
sample's generators are seeded by its place in the order of training, and a step's by its number.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.registry import DATA_SAMPLERS, DATASETS, HOOKS
from torch.utils.data import Dataset, Sampler


@DATASETS.register_module()
class RepeatableDataset(Dataset):
    """A data set whose indices, of :class:`RepeatableSampler`, say where in the order of training a sample is.

    Args:
        dataset: Config of the data set.
        seed: Seed of the run.
    """

    def __init__(self, dataset: dict, seed: int) -> None:
        self.dataset, self.seed = DATASETS.build(dataset), seed

    @property
    def metainfo(self) -> dict:
        """The data set's."""
        return self.dataset.metainfo

    def full_init(self) -> None:
        """Read the annotations."""
        if hasattr(self.dataset, 'full_init'):
            self.dataset.full_init()

    def get_data_info(self, index: int) -> dict:
        """Return what is known of a sample without loading it."""
        return self.dataset.get_data_info(index % len(self.dataset))

    def get_cat_ids(self, index: int) -> list[int]:
        """Categories of a sample."""
        return self.dataset.get_cat_ids(index % len(self.dataset))

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Any:
        place, index = divmod(index, len(self.dataset))
        seed_everything(self.seed, place)
        return self.dataset[index]


@DATA_SAMPLERS.register_module()
class RepeatableSampler(Sampler):
    """A sampler that hands on where in the order of training a sample is, as ``place * len(dataset) + index``.

    Args:
        dataset: The data set.
        sampler: Config of the sampler itself.
        **kwargs: What MMEngine hands every sampler.
    """

    def __init__(self, dataset: RepeatableDataset, sampler: dict, **kwargs: Any) -> None:
        self.sampler = DATA_SAMPLERS.build(sampler, default_args=dict(dataset=dataset, **kwargs))
        self.dataset, self.number, self.epoch = dataset, len(dataset), 0

    def __len__(self) -> int:
        return len(self.sampler)

    def set_epoch(self, epoch: int) -> None:
        """Begin an epoch."""
        self.epoch = epoch
        if hasattr(self.sampler, 'set_epoch'):
            self.sampler.set_epoch(epoch)

    def __iter__(self) -> Iterator[int]:
        rank, ranks = getattr(self.sampler, 'rank', 0), getattr(self.sampler, 'world_size', 1)
        place = self.epoch * self.number + rank
        for index in self.sampler:
            yield place * self.number + index
            place += ranks


@HOOKS.register_module()
class RepeatableSteps(Hook):
    """Seed PyTorch's generators in front of each training step, which dropout and its like draw from.

    Args:
        seed: Seed of the run.
    """

    priority = 'VERY_HIGH'

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def before_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None) -> None:
        """Seed them by the number of the step."""
        seed_everything(self.seed, runner.iter)


def seed_everything(seed: int, place: int) -> None:
    """Seed the generators of Python, NumPy and PyTorch by two numbers."""
    mixed = int(np.random.SeedSequence((seed, place)).generate_state(1)[0])
    random.seed(mixed)
    np.random.seed(mixed)
    torch.manual_seed(mixed)


def make_repeatable(config: Config, seed: int) -> None:
    """Have a config train with a seed, whatever network it has and wherever it is resumed."""
    loader = config.train_dataloader
    if loader.dataset.type != 'RepeatableDataset':
        loader.dataset = dict(type='RepeatableDataset', dataset=loader.dataset, seed=seed)
        loader.sampler = dict(type='RepeatableSampler', sampler=loader.sampler)
        config.custom_hooks = [*config.get('custom_hooks', ()), dict(type='RepeatableSteps', seed=seed)]
    config.randomness = dict(config.get('randomness', {}), seed=seed)
