"""MobileNetV2 with Attentive Normalization after the depthwise convolution of every block.

Li, Sun and Wu, 'Attentive Normalization', ECCV 2020. Everything else is MMDetection's MobileNetV2.
"""

from __future__ import annotations

from collections.abc import Sequence

from mmdet.models.backbones import MobileNetV2
from mmengine.registry import MODELS

from ..norms import replace_norm


@MODELS.register_module()
class ANMobileNetV2(MobileNetV2):
    """AN-MobileNetV2: MMDetection's MobileNetV2 with an AN for the norm of every depthwise convolution.

    Args:
        num_mixtures: Mixtures of the ANs of each of the seven stages. Defaults to (5, 5, 5, 5, 10, 10, 10), as in the
            paper.
        **kwargs: Every argument of MMDetection's ``MobileNetV2``. A ``norm_cfg`` of type ``'BN'``, ``'SyncBN'`` or
            ``'GN'`` also standardizes inside the ANs.

    Raises:
        ValueError: ``num_mixtures`` hasn't seven numbers.

    Shapes:
        (N, 3, H, W) in; a tuple of the stages in ``out_indices`` out.

    Example:
        >>> backbone = dict(type='ANMobileNetV2', out_indices=(7,))
    """

    def __init__(self, num_mixtures: Sequence[int] = (5, 5, 5, 5, 10, 10, 10), **kwargs) -> None:
        super().__init__(**kwargs)
        stages = self.layers[:-1]  # the last is a convolution
        if len(num_mixtures) != len(stages):
            raise ValueError(
                f'ANMobileNetV2: num_mixtures must have a number for each of the {len(stages)} stages, '
                f'got {tuple(num_mixtures)}'
            )
        standardizing = {key: value for key, value in self.norm_cfg.items() if key != 'requires_grad'}
        for stage, mixtures in zip(stages, num_mixtures):
            for block in getattr(self, stage):
                replace_norm(block.depthwise_conv, dict(type='AN', num_mixtures=mixtures, norm_cfg=standardizing))
        self._freeze_stages()
