"""Networks for images of 32 × 32: MMPretrain's with another stem, and ResNets of three stages.

They build on MMPretrain, which is why importing ``ean_mmdet`` alone doesn't import them: ``custom_imports =
dict(imports=['ean_mmdet', 'ean_mmdet.backbones.cifar'])``.
"""

from __future__ import annotations

from mmcv.cnn import ConvModule
from mmengine.registry import MODELS
from mmpretrain.models.backbones import DenseNet, ResNet_CIFAR, ResNeXt, ShuffleNetV2
from mmpretrain.models.backbones.resnet import BasicBlock
from mmpretrain.models.backbones.resnext import Bottleneck
from torch import nn

# Three stages, of which the last is returned.
THREE_STAGES = dict(num_stages=3, strides=(1, 2, 2), dilations=(1, 1, 1), out_indices=(2,))


@MODELS.register_module()
class CIFARResNet(ResNet_CIFAR):
    """ResNet for CIFAR (He, Zhang, Ren and Sun, CVPR 2016, Section 4.2): basic blocks of 16, 32 and 64 channels.

    Where the channels change, the shortcut is a 1 × 1 convolution with its norm.

    Args:
        depth: 20, 32, 44, 56 or 110. Defaults to 56.
        **kwargs: Every other argument of MMPretrain's ``ResNet_CIFAR``.

    Shapes:
        (N, 3, H, W) in; a tuple of one, (N, 64, H / 4, W / 4), out.

    Example:
        >>> backbone = dict(type='CIFARResNet', depth=56)
    """

    arch_settings = {depth: (BasicBlock, ((depth - 2) // 6,) * 3) for depth in (20, 32, 44, 56, 110)}  # noqa: RUF012

    def __init__(self, depth: int = 56, **kwargs) -> None:
        super().__init__(depth, **{'stem_channels': 16, 'base_channels': 16, **THREE_STAGES, **kwargs})


@MODELS.register_module()
class CIFARResNeXt(ResNet_CIFAR, ResNeXt):
    """ResNeXt-29 for CIFAR (Xie, Girshick, Dollár, Tu and He, CVPR 2017, Section 5.2).

    Args:
        depth: 29. Defaults to 29.
        groups: Groups of the 3 × 3 convolutions, the cardinality. Defaults to 16.
        width_per_group: Channels of a group in the first stage. Defaults to 32: 16 × 32d gives the EAN paper's counts.
        **kwargs: Every other argument of MMPretrain's ``ResNeXt``.

    Shapes:
        (N, 3, H, W) in; a tuple of one, (N, 1024, H / 4, W / 4), out.

    Example:
        >>> backbone = dict(type='CIFARResNeXt', depth=29, groups=8, width_per_group=64)
    """

    arch_settings = {29: (Bottleneck, (3, 3, 3))}  # noqa: RUF012, overrides the base class's

    def __init__(self, depth: int = 29, groups: int = 16, width_per_group: int = 32, **kwargs) -> None:
        super().__init__(depth, groups=groups, width_per_group=width_per_group, **{**THREE_STAGES, **kwargs})


@MODELS.register_module()
class CIFARShuffleNetV2(ShuffleNetV2):
    """MMPretrain's ShuffleNetV2 with a stem of stride 1 and no pooling.

    Args:
        **kwargs: Those of MMPretrain's ``ShuffleNetV2``.

    Shapes:
        (N, 3, H, W) in; a tuple of the stages in ``out_indices``, by default the last, (N, 1024, H / 8, W / 8), out.

    Example:
        >>> backbone = dict(type='CIFARShuffleNetV2', widen_factor=1.0)
    """

    def __init__(self, **kwargs) -> None:
        super().__init__(**kwargs)
        layers = dict(conv_cfg=self.conv_cfg, norm_cfg=self.norm_cfg, act_cfg=self.act_cfg)
        self.conv1 = ConvModule(3, 24, 3, padding=1, **layers)
        self.maxpool = nn.Identity()


@MODELS.register_module()
class CIFARDenseNet(DenseNet):
    """MMPretrain's DenseNet with a 3 × 3 convolution of stride 1 for its stem, without norm and pooling.

    Args:
        **kwargs: Those of MMPretrain's ``DenseNet``.

    Shapes:
        (N, 3, H, W) in; a tuple of the stages in ``out_indices``, by default the last, (N, 1024, H / 8, W / 8) for
        depth 121, out.

    Example:
        >>> backbone = dict(type='CIFARDenseNet', arch='121')
    """

    def __init__(self, **kwargs) -> None:
        super().__init__(**kwargs)
        self.stem = nn.Conv2d(kwargs.get('in_channels', 3), self.init_channels, 3, padding=1, bias=False)
