import random

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DATASETS
from mmengine.runner import Runner
from torch.utils.data import Dataset

from ean_mmdet.evaluation.repeatable import make_repeatable


@DATASETS.register_module()
class Augmented(Dataset):
    """What three libraries draw for a sample."""

    def __init__(self, number=7):
        self.number = number

    def __len__(self):
        return self.number

    def __getitem__(self, index):
        return dict(index=index, drawn=(random.random(), np.random.random(), torch.rand(()).item()))


def samples(sampler, workers, seed=3, epochs=2, begin=0, consumed=0):
    loader = dict(
        dataset=dict(type='Augmented'), sampler=dict(type=sampler, shuffle=True), batch_size=2, num_workers=workers,
        collate_fn=dict(type='pseudo_collate'),
    )  # fmt: skip
    config = Config(dict(train_dataloader=loader))
    make_repeatable(config, seed)
    torch.rand(consumed)  # what building a network draws
    built = Runner.build_dataloader(config.train_dataloader, seed=seed)
    found = []
    for epoch in range(begin, epochs):
        if hasattr(built.sampler, 'set_epoch'):
            built.sampler.set_epoch(epoch)
        for batch, _ in zip(built, range(4)):
            found += list(zip(batch['index'], zip(*batch['drawn'])))
    return found


@pytest.mark.parametrize('sampler', ['DefaultSampler', 'InfiniteSampler'])
def test_images_and_augmentation_depend_on_the_seed_alone(sampler):
    first = samples(sampler, 0)
    assert first == samples(sampler, 0, consumed=5) == samples(sampler, 2, consumed=9)
    assert first != samples(sampler, 0, seed=4)
    assert len({drawn for _, drawn in first}) == len(first)  # another augmentation each time


def test_an_epoch_that_is_resumed_is_the_same():
    assert samples('DefaultSampler', 0)[7:] == samples('DefaultSampler', 0, begin=1)
