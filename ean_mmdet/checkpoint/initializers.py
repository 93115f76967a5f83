"""Weight initializers that load a checkpoint: ``Pretrained`` takes what fits, ``WarmStart`` is strict."""

from __future__ import annotations

from typing import Any

from mmengine.logging import print_log
from mmengine.model import PretrainedInit, update_init_info
from mmengine.registry import WEIGHT_INITIALIZERS
from mmengine.runner.checkpoint import CheckpointLoader
from torch import nn

from ..errors import InputError
from .reading import weights_in
from .warm_start import load_weights


@WEIGHT_INITIALIZERS.register_module(name='Pretrained', force=True)
class CheckedPretrained(PretrainedInit):
    """mmengine's ``PretrainedInit`` with any library's keys, and attention that the checkpoint lacks doing no harm.

    A file of which nothing fits is an error, where mmengine's warns of every key and trains from random weights.

    Args:
        checkpoint: Path, URL, ``torchvision://NAME`` or ``open-mmlab://NAME``.
        prefix: Take only the keys that start with it, without it. Defaults to None, all.
        map_location: Where to load to. Defaults to ``'cpu'``.
        keep_function: Whether a network with attention that the checkpoint lacks computes what it did without, see
            :func:`.load_weights`. Defaults to True.
    """

    def __init__(
        self, checkpoint: str, prefix: str | None = None, map_location: str = 'cpu', keep_function: bool = True
    ) -> None:
        super().__init__(checkpoint, prefix, map_location)
        self.keep_function = keep_function

    def __call__(self, module: nn.Module) -> None:
        """Initialize ``module``.

        Raises:
            InputError: The checkpoint fills less than a tenth of the module's parameters.
        """
        content = CheckpointLoader.load_checkpoint(self.checkpoint, map_location=self.map_location, logger='current')
        print_log(f'load {self.prefix or "model"} from: {self.checkpoint}', logger='current')
        weights = weights_in(content, self.checkpoint, self.prefix)
        load_weights(module, weights, self.checkpoint, keep_function=self.keep_function)
        if hasattr(module, '_params_init_info'):
            update_init_info(module, init_info=self._get_init_info())


@WEIGHT_INITIALIZERS.register_module()
class WarmStart:
    """Weight initializer that adds attention to a pretrained network and loses nothing, or says why it can't.

    Loads a checkpoint of the network without attention as ``Pretrained`` does, which scales the norm in front of each
    attention module by the inverse of the module's initial map (Li, Li and Wen, AAAI 2024: an EAN halves its input at
    the start, so the norm is doubled). The network then computes what the plain one did, to rounding, in training and
    evaluation mode. Where that can't be, or the checkpoint isn't of this network, it is an error; and the log has a
    table of what was matched, scaled, skipped and missing.

    Args:
        checkpoint: Path, ``https://…``, ``torchvision://NAME`` or ``open-mmlab://NAME``.
        prefix: Take only the keys that start with it, without it. Defaults to None, all.

    Raises:
        InputError: When called, see :func:`.load_weights`; or it isn't the only initializer that sets what it sets.

    Example:
        >>> backbone = dict(
        ...     type='EANResNet', depth=50, init_cfg=dict(type='WarmStart', checkpoint='torchvision://resnet50'))
    """

    def __init__(self, checkpoint: str, prefix: str | None = None) -> None:
        self.checkpoint = checkpoint
        self.prefix = prefix

    def __call__(self, module: Any) -> None:
        """Initialize ``module``, its children included."""
        self._check_order(module)
        # mmengine initializes the children after this, unless they are already: what was loaded has to stay.
        for child in module.children():
            if hasattr(child, 'init_weights') and not getattr(child, 'is_init', False):
                child.init_weights()
                child.is_init = True
        content = CheckpointLoader.load_checkpoint(self.checkpoint, map_location='cpu', logger='current')
        weights = weights_in(content, self.checkpoint, self.prefix)
        report = load_weights(module, weights, self.checkpoint, strict=True)
        print_log(f'{type(module).__name__} starts from {self.checkpoint}\n{report}', logger='current')
        # mmpretrain's backbones go on to initialize themselves, unless their weights come from this type.
        module.init_cfg = dict(type='Pretrained', checkpoint=self.checkpoint)
        if hasattr(module, '_params_init_info'):
            update_init_info(module, init_info=f'WarmStart: load from {self.checkpoint}')

    def _check_order(self, module: nn.Module) -> None:
        init_cfg = getattr(module, 'init_cfg', None)
        if isinstance(init_cfg, (list, tuple)) and len(init_cfg) > 1:
            types = [cfg['type'] for cfg in init_cfg]
            if types[-1] not in ('WarmStart', WarmStart) or 'Pretrained' in types:
                raise InputError(
                    f'WarmStart must be the last of the initializers in init_cfg of {type(module).__name__}, and there '
                    f'must be no Pretrained beside it, as they would overwrite what it loads; got {types}'
                )
