"""The supernet: all connection schemes in one network, trained with another scheme each iteration."""

from __future__ import annotations

import copy

import numpy as np
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.registry import HOOKS
from mmengine.runner import Runner

from ..datasets import split_training_data
from ..errors import InputError
from ..insertion import positions, set_connections


@HOOKS.register_module()
class SupernetHook(Hook):
    """Draw a scheme for each iteration of training: each block's attention on or off with equal chance.

    The scheme depends on the seed and the iteration alone, so all processes draw the same one and a resumed run goes on
    with those that it would have had.

    Args:
        seed: Seed. Defaults to 0.
    """

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed

    def scheme(self, iteration: int, blocks: int) -> list[int]:
        """The scheme of an iteration."""
        return np.random.default_rng([self.seed, iteration]).integers(0, 2, blocks).tolist()

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: object = None) -> None:
        """Switch the model's blocks."""
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        set_connections(model, self.scheme(runner.iter, len(positions(model))))


def supernet_config(config: Config, share: float = 0.1, seed: int = 0) -> Config:
    """The config of a supernet: of a user's, with shared attention in all blocks, on a part of its training data.

    Args:
        config: The user's. It isn't changed.
        share: Share of the training data that is held out. Defaults to 0.1.
        seed: Seed of the split and of the schemes. Defaults to 0.

    Raises:
        InputError: Its backbone can't be connected, or its training data not split.
    """
    config = copy.deepcopy(config)
    backbone = config.model.backbone
    if backbone.type not in ('WithAttention', 'EANResNet', 'EANMobileNeXt', 'MobileNeXt') or (
        backbone.type == 'MobileNeXt' and not backbone.get('attention')
    ):
        raise InputError(
            f'the backbone {backbone.type} of the config has no attention that can be connected; take EANResNet, '
            f"EANMobileNeXt, MobileNeXt with attention=…, or WithAttention around it: dict(type='WithAttention', "
            f"backbone=dict(type='{backbone.type}', …), attention=dict(type='SE'))"
        )
    backbone.shared = 'stage'
    backbone.pop('connections', None)
    split_training_data(config, share, seed)
    # an iteration leaves some modules out
    config.find_unused_parameters = True
    config.custom_hooks = [*(config.get('custom_hooks') or []), dict(type='SupernetHook', seed=seed)]
    config.custom_imports = dict(
        imports=sorted({*config.get('custom_imports', {}).get('imports', []), 'ean_mmdet', 'ean_mmdet.search'})
    )
    return config
