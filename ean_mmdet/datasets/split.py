"""A part of the training data that is held out, so that a choice is not made on the test set."""

from __future__ import annotations

import copy
from typing import Any

import torch
from mmengine.config import Config
from mmengine.registry import DATASETS
from torch.utils.data import Dataset

from ..errors import InputError
from .config_parts import as_list, datasets_of, pipeline_of, type_name

PARTS = ('train', 'held_out')


@DATASETS.register_module()
class SplitDataset(Dataset):
    """One part of a data set, by a random split of its samples.

    Args:
        dataset: Config of the data set.
        part: ``'train'`` or ``'held_out'``.
        share: Share of the samples that is held out. Defaults to 0.1.
        seed: Seed of the split. Defaults to 0.

    Raises:
        ValueError: ``part`` is unknown, or a part is empty.
    """

    def __init__(self, dataset: dict, part: str, share: float = 0.1, seed: int = 0) -> None:
        if part not in PARTS:
            raise ValueError(f'SplitDataset: part must be one of {", ".join(PARTS)}, got {part!r}')
        self.dataset = DATASETS.build(dataset)
        self.dataset.full_init()
        order = torch.randperm(len(self.dataset), generator=torch.Generator().manual_seed(seed)).tolist()
        held_out = round(share * len(order))
        if not 0 < held_out < len(order):
            raise ValueError(
                f'SplitDataset: a share of {share} of {len(order)} samples is {held_out}; both parts need one at least'
            )
        self.indices = sorted(order[:held_out] if part == 'held_out' else order[held_out:])

    @property
    def metainfo(self) -> dict:
        """The data set's."""
        return self.dataset.metainfo

    def full_init(self) -> None:
        """Do nothing: it is complete already."""

    def get_data_info(self, index: int) -> dict:
        """Return what is known of a sample without loading it."""
        return self.dataset.get_data_info(self.indices[index])

    def get_cat_ids(self, index: int) -> list[int]:
        """Categories of a sample."""
        return self.dataset.get_cat_ids(self.indices[index])

    def __getitem__(self, index: int) -> dict:
        return self.dataset[self.indices[index]]

    def __len__(self) -> int:
        return len(self.indices)


def split_training_data(config: Config, share: float = 0.1, seed: int = 0) -> None:
    """Have a config train on one part of its training data, and validate on the other with its own metric.

    The held-out part goes through the validation pipeline. A COCO metric then reads the annotations from the data set,
    as there is no file of that part alone.

    Raises:
        InputError: The config validates nothing, or by a metric that needs a file of annotations.
    """
    if not config.get('val_dataloader') or not config.get('val_evaluator'):
        raise InputError('the config has no val_dataloader and val_evaluator, whose metric is what a search goes by')
    pipeline: Any = pipeline_of(config, 'val')
    held_out = []
    for leaf in datasets_of(config, 'train'):
        whole = copy.deepcopy(leaf)
        held_out.append(
            dict(type='SplitDataset', dataset=dict(whole, pipeline=pipeline), part='held_out', share=share, seed=seed)
        )
        leaf.clear()
        leaf.update(type='SplitDataset', dataset=whole, part='train', share=share, seed=seed)
    for evaluator in as_list(config.val_evaluator):
        if type_name(evaluator).endswith('CocoMetric'):
            evaluator['ann_file'] = None
            _keep_instances(pipeline)
        elif evaluator.get('ann_file'):
            raise InputError(
                f'{type_name(evaluator)} evaluates on {evaluator["ann_file"]}, which is not of the training data; a '
                f'search takes CocoMetric, VOCMetric, or a metric without an annotation file'
            )
    config.val_dataloader.dataset = held_out[0] if len(held_out) == 1 else dict(type='ConcatDataset', datasets=held_out)


def _keep_instances(pipeline: list[dict]) -> None:
    """Have a pipeline of MMDetection hand on the annotations themselves."""
    pack = pipeline[-1]
    pack['meta_keys'] = ('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor', 'instances')
    if not any(type_name(step) == 'LoadAnnotations' for step in pipeline):
        pipeline.insert(len(pipeline) - 1, dict(type='LoadAnnotations', with_bbox=True))
