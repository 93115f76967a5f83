"""ResNet with Attentive Normalization for the second norm of every bottleneck.

Li, Sun and Wu, 'Attentive Normalization', ECCV 2020. Everything else is MMDetection's ResNet.
"""

from __future__ import annotations

from collections.abc import Sequence

from mmcv.cnn import build_norm_layer
from mmdet.models.backbones import ResNet
from mmdet.models.backbones.resnet import Bottleneck
from mmengine.registry import MODELS


class ANBottleneck(Bottleneck):
    """MMDetection's bottleneck with AN behind its 3×3 convolution.

    Args:
        num_mixtures: Mixtures of the AN. Defaults to 10.
        **kwargs: Those of MMDetection's ``Bottleneck``. ``norm_cfg`` also standardizes inside the AN.
    """

    norm2_name: str  # MMDetection's

    def __init__(self, inplanes: int, planes: int, num_mixtures: int = 10, **kwargs) -> None:
        super().__init__(inplanes, planes, **kwargs)
        delattr(self, self.norm2_name)
        cfg = dict(
            type='AN',
            num_mixtures=num_mixtures,
            norm_cfg={key: value for key, value in self.norm_cfg.items() if key != 'requires_grad'},
            requires_grad=self.norm_cfg.get('requires_grad', True),
        )
        self.norm2_name, norm2 = build_norm_layer(cfg, planes, postfix=2)
        self.add_module(self.norm2_name, norm2)


@MODELS.register_module()
class ANResNet(ResNet):
    """AN-ResNet: MMDetection's ResNet with an AN for the second norm of every bottleneck.

    Args:
        depth: 50, 101 or 152.
        num_mixtures: Mixtures of the ANs of each stage. Defaults to (10, 10, 20, 20), as in the paper.
        **kwargs: Every other argument of MMDetection's ResNet. A ``norm_cfg`` of type ``'BN'``, ``'SyncBN'`` or
            ``'GN'`` also standardizes inside the ANs.

    Raises:
        ValueError: The depth isn't one with bottlenecks, or ``num_mixtures`` has fewer numbers than there are stages.

    Shapes:
        (N, 3, H, W) in; a tuple of the stages in ``out_indices`` out, with strides 4, 8, 16 and 32 and 256, 512, 1024
        and 2048 channels.

    Example:
        >>> backbone = dict(type='ANResNet', depth=50)
    """

    arch_settings = {  # noqa: RUF012, overrides the base class's
        depth: (ANBottleneck, blocks) for depth, (block, blocks) in ResNet.arch_settings.items() if block is Bottleneck
    }

    def __init__(self, depth: int, num_mixtures: Sequence[int] = (10, 10, 20, 20), **kwargs) -> None:
        if depth not in self.arch_settings:
            raise ValueError(f'ANResNet: depth must be one of {sorted(self.arch_settings)}, got {depth}')
        if len(num_mixtures) < kwargs.get('num_stages', 4):
            raise ValueError(f'ANResNet: num_mixtures must have a number for each stage, got {tuple(num_mixtures)}')
        self.num_mixtures = tuple(num_mixtures)
        super().__init__(depth, **kwargs)

    def make_res_layer(self, **kwargs):
        """One stage. MMDetection's ``zero_init_residual`` looks for its own bottleneck; this sees to ours."""
        if self.zero_init_residual and isinstance(self.init_cfg, list):
            kwargs['init_cfg'] = dict(type='Constant', val=0, override=dict(name='norm3'))
        return super().make_res_layer(num_mixtures=self.num_mixtures[len(self.res_layers)], **kwargs)
