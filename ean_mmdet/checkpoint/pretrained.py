"""``init_cfg=dict(type='Pretrained')`` that refuses a checkpoint without a usable weight.

mmengine's warns of every key and trains from random weights.
"""

from __future__ import annotations

from mmengine.logging import print_log
from mmengine.model import PretrainedInit, update_init_info
from mmengine.registry import WEIGHT_INITIALIZERS
from mmengine.runner.checkpoint import CheckpointLoader, load_state_dict
from torch import nn

from ..errors import InputError
from .fit import check_fit, weights_in
from .loaded import note_loaded


@WEIGHT_INITIALIZERS.register_module(name='Pretrained', force=True)
class CheckedPretrained(PretrainedInit):
    """mmengine's ``PretrainedInit``: its arguments, its result, and an error where nothing of the file fits.

    Args:
        checkpoint: Path, URL, ``torchvision://NAME`` or ``open-mmlab://NAME``.
        prefix: Take only the keys that start with it, without it. Defaults to None, all.
        map_location: Where to load to. Defaults to ``'cpu'``.
    """

    def __call__(self, module: nn.Module) -> None:
        """Initialize ``module``.

        Raises:
            InputError: The checkpoint fills less than a tenth of the module's parameters.
        """
        content = CheckpointLoader.load_checkpoint(self.checkpoint, map_location=self.map_location, logger='current')
        weights = weights_in(content, self.checkpoint)
        if self.prefix is not None:
            prefix = self.prefix if self.prefix.endswith('.') else f'{self.prefix}.'
            weights = {key[len(prefix) :]: value for key, value in weights.items() if key.startswith(prefix)}
            if not weights:
                raise InputError(
                    f'{self.checkpoint} has no key that starts with {prefix!r}, the prefix of its init_cfg; it has '
                    f'{", ".join(list(weights_in(content, self.checkpoint))[:3])}, …'
                )
        check_fit(module, weights, self.checkpoint)
        print_log(f'load {self.prefix or "model"} from: {self.checkpoint}', logger='current')
        load_state_dict(module, weights, strict=False, logger='current')
        note_loaded(module, weights)
        if hasattr(module, '_params_init_info'):
            update_init_info(module, init_info=self._get_init_info())
