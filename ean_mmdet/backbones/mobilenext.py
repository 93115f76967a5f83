"""MobileNeXt, plain or with an attention module in every full sandglass block, and EAN-MobileNeXt.

Zhou, Hou, Chen, Feng and Yan, 'Rethinking Bottleneck Structure for Efficient Mobile Network Design', ECCV 2020.
Place of the attention: Li, Li and Wen, AAAI 2024, 'Integration Strategy', the last layer of the sandglass block.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from mmcv.cnn import ConvModule
from mmdet.models.utils import make_divisible
from mmengine.model import BaseModule
from mmengine.registry import MODELS
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from ..insertion import Position
from ..insertion.attach import insert
from ..insertion.fused_residual import end_of_block, prepare_end
from .with_attention import gate_builder


class LastDepthwise(ConvModule):
    """The block's last depthwise convolution and its norm, which takes the addition along. Arguments of the base."""

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        prepare_end(self.conv)

    def forward(self, x: Tensor, identity: Tensor | None = None) -> Tensor:
        """(N, C, H, W) → (N, C, H / stride, W / stride), with the identity added."""
        if identity is None:
            return super().forward(x)
        norm, z = self.norm, self.conv(x)
        along = end_of_block(norm, self.conv)
        return norm(z) + identity if along is None else norm(z, residual=identity, **along)


class SandglassBlock(BaseModule):
    """The sandglass block: depthwise convolutions at the wide ends, a narrow waist between.

    Its full form is dw 3×3 → pw to the waist (linear) → pw out of it → dw 3×3 (linear), plus the input where shapes
    allow. Where the width changes inside a stage of several blocks it is shorter: no depthwise
    convolution before the waist, and one behind it only to carry a stride.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        waist_channels: Channels of the waist.
        stride: Stride, of the last depthwise convolution. Defaults to 1.
        full: Whether the block has both depthwise convolutions. Defaults to True.
        conv_cfg: Config of the convolutions. Defaults to None, Conv2d.
        norm_cfg: Config of the norms. Defaults to dict(type='BN').
        act_cfg: Config of the activations. Defaults to dict(type='ReLU6').
        with_cp: Whether to trade compute for memory with gradient checkpointing. Defaults to False.
        init_cfg: Initialization config. Defaults to None.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        waist_channels: int,
        stride: int = 1,
        full: bool = True,
        conv_cfg: dict | None = None,
        norm_cfg: dict | None = None,
        act_cfg: dict | None = None,
        with_cp: bool = False,
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        super().__init__(init_cfg)
        norm_cfg = norm_cfg or dict(type='BN')
        act_cfg = act_cfg or dict(type='ReLU6')
        self.with_cp = with_cp
        self.with_shortcut = stride == 1 and in_channels == out_channels

        linear: dict = dict(conv_cfg=conv_cfg, norm_cfg=norm_cfg, act_cfg=None)
        active = dict(linear, act_cfg=act_cfg)
        self.depthwise1 = ConvModule(in_channels, in_channels, 3, 1, 1, groups=in_channels, **active) if full else None
        self.reduce = ConvModule(in_channels, waist_channels, 1, **linear)
        self.expand = ConvModule(waist_channels, out_channels, 1, **active)
        self.depthwise2 = None
        if full or stride > 1:
            self.depthwise2 = LastDepthwise(out_channels, out_channels, 3, stride, 1, groups=out_channels, **linear)

    def expansion(self, x: Tensor) -> Tensor:
        """The feature behind the waist, at the input's resolution: (N, in_channels, H, W) → (N, out_channels, H, W)."""
        if self.depthwise1 is not None:
            x = self.depthwise1(x)
        return self.expand(self.reduce(x))

    def forward(self, x: Tensor, checkpointed: bool = False) -> Tensor:
        """(N, in_channels, H, W) → (N, out_channels, H / stride, W / stride)."""
        if self.with_cp and x.requires_grad and not checkpointed:
            return checkpoint(self.forward, x, True, use_reentrant=False)
        identity = x if self.with_shortcut else None
        x = self.expansion(x)
        if self.depthwise2 is not None:
            return self.depthwise2(x, identity)
        return x if identity is None else x + identity


@MODELS.register_module()
class MobileNeXt(BaseModule):
    """MobileNeXt backbone (ECCV 2020).

    Args:
        widen_factor: Factor on the channels of every layer. Defaults to 1.0.
        last_channels: Channels of the last stage. Defaults to None: 1280, and more where ``widen_factor`` is above 1.
        attention: Config of the attention module, ``dict(type='SE', ratio=16)``, or None. Defaults to None.
        attention_at: Which depthwise convolution's norm of a block it follows: the ``'last'``, before the addition, or
            the ``'first'``, before its activation. Defaults to ``'last'``.
        attention_blocks: ``'full'``: the 15 blocks with both depthwise convolutions; ``'all'``: the 18 with a last
            one. Defaults to ``'full'``.
        shared: ``'stage'``: one attention module for all blocks of a stage that have the same channels, the first
            block's; None: each block has its own. Defaults to None.
        connections: A 0 or 1 for each block that can have attention, in the order of depth: whether it has.
            Defaults to None, all.
        out_indices: Stages, 0 to 7, whose output is returned. Defaults to (1, 2, 4, 7): strides 4, 8, 16 and 32.
        expansion_indices: Stages with stride 2 whose first block's expansion is returned too: the feature before the
            strided depthwise convolution, with the stage's channels at the previous stage's stride. SSDLite takes
            stage 5 so (576 channels at stride 16). Defaults to ().
        frozen_stages: Stages to freeze, parameters and statistics: -1 none, 0 the stem, n the stem and the first n
            stages. Defaults to -1.
        conv_cfg: Config of the convolutions. Defaults to None, Conv2d.
        norm_cfg: Config of the norms. Defaults to None, ``dict(type='BN')``.
        act_cfg: Config of the activations. Defaults to None, ``dict(type='ReLU6')``.
        norm_eval: Whether batch norms stay in evaluation mode while training. Defaults to False.
        with_cp: Whether to trade compute for memory with gradient checkpointing. Defaults to False.
        init_cfg: Initialization config. Defaults to None: Kaiming for convolutions, one for norms.

    Raises:
        ValueError: An index out of range, an option that is unknown, or attention that doesn't fit.

    Shapes:
        (N, 3, H, W) in; a tuple of feature maps out, in the order of depth.

    Example:
        >>> backbone = dict(type='MobileNeXt', out_indices=(7,), expansion_indices=(5,))  # for SSDLite
    """

    # Stage by stage: factor of the waist, channels, blocks, stride of the first block.
    arch_settings = (
        (2, 96, 1, 2),
        (6, 144, 1, 1),
        (6, 192, 3, 2),
        (6, 288, 3, 2),
        (6, 384, 4, 1),
        (6, 576, 4, 2),
        (6, 960, 3, 1),
        (6, 1280, 1, 1),
    )

    def __init__(
        self,
        widen_factor: float = 1.0,
        last_channels: int | None = None,
        attention: dict | None = None,
        attention_at: str = 'last',
        attention_blocks: str = 'full',
        shared: str | None = None,
        connections: Sequence[int] | None = None,
        out_indices: Sequence[int] = (1, 2, 4, 7),
        expansion_indices: Sequence[int] = (),
        frozen_stages: int = -1,
        conv_cfg: dict | None = None,
        norm_cfg: dict | None = None,
        act_cfg: dict | None = None,
        norm_eval: bool = False,
        with_cp: bool = False,
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        if init_cfg is None:
            init_cfg = [
                dict(type='Kaiming', layer='Conv2d'),
                dict(type='Constant', val=1, layer=['_BatchNorm', 'GroupNorm']),
            ]
        super().__init__(init_cfg)
        name, stages = type(self).__name__, len(self.arch_settings)
        strided = [i for i, (_, _, _, stride) in enumerate(self.arch_settings) if stride > 1]
        if not set(out_indices) <= set(range(stages)):
            raise ValueError(f'{name}: out_indices must be among 0 to {stages - 1}, got {tuple(out_indices)}')
        if not set(expansion_indices) <= set(strided):
            raise ValueError(
                f'{name}: expansion_indices must be among the stages with stride 2, {strided}, '
                f'got {tuple(expansion_indices)}'
            )
        if frozen_stages not in range(-1, stages + 1):
            raise ValueError(f'{name}: frozen_stages must be -1 to {stages}, got {frozen_stages}')
        if (attention_at, attention_blocks) not in (('last', 'full'), ('last', 'all'), ('first', 'full')):
            raise ValueError(
                f"{name}: attention_at must be 'last' or 'first', and attention_blocks 'full' or, with 'last', 'all'; "
                f'got {attention_at!r} and {attention_blocks!r}'
            )
        if attention is None and (shared is not None or connections is not None):
            raise ValueError(f'{name}: shared and connections need attention to share and connect')
        self.out_indices = tuple(out_indices)
        self.expansion_indices = tuple(expansion_indices)
        self.frozen_stages = frozen_stages
        self.norm_eval = norm_eval
        common = dict(conv_cfg=conv_cfg, norm_cfg=norm_cfg or dict(type='BN'), act_cfg=act_cfg or dict(type='ReLU6'))

        channels = make_divisible(32 * widen_factor, 8)
        self.stem = ConvModule(3, channels, 3, stride=2, padding=1, **common)
        self.stages = []
        places = []
        for index, (waist_factor, width, blocks, stride) in enumerate(self.arch_settings):
            layers = []
            if index == stages - 1:
                width = last_channels or make_divisible(width * max(widen_factor, 1.0), 8)
            else:
                width = make_divisible(width * widen_factor, 8)
            for block in range(blocks):
                block_stride = stride if block == 0 else 1
                waist = channels // waist_factor
                if waist < width / 6:
                    waist = make_divisible(math.ceil(width / 6), 16)
                full = waist_factor == 2 or channels == width or (blocks == 1 and block_stride == 1)
                layers.append(
                    SandglassBlock(
                        channels,
                        width,
                        waist,
                        block_stride,
                        full=full,
                        with_cp=with_cp,
                        **common,
                    )
                )
                if full or (attention_blocks == 'all' and block_stride > 1):
                    layer, width_there = ('depthwise2', width) if attention_at == 'last' else ('depthwise1', channels)
                    norm = f'{layer}.{getattr(layers[-1], layer).norm_name}'
                    places.append(Position(f'layer{index + 1}.{block}.{norm}', width_there, f'layer{index + 1}'))
                channels = width
            self.stages.append(f'layer{index + 1}')
            self.add_module(self.stages[-1], nn.Sequential(*layers))
        if attention is not None:
            build = gate_builder(attention, places, name, shared, with_cp)
            insert(self, places, build, shared, connections, name)
        self._freeze_stages()

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """The feature maps of ``expansion_indices`` and ``out_indices``, in the order of depth."""
        x = self.stem(x)
        outs = []
        for index, stage in enumerate(self.stages):
            layer = getattr(self, stage)
            if index in self.expansion_indices:
                # A strided block has no shortcut, so behind its expansion there is but this convolution.
                expansion = layer[0].expansion(x)
                outs.append(expansion)
                x = layer[1:](layer[0].depthwise2(expansion))
            else:
                x = layer(x)
            if index in self.out_indices:
                outs.append(x)
        return tuple(outs)

    def _freeze_stages(self) -> None:
        frozen = [] if self.frozen_stages < 0 else [self.stem]
        frozen += [getattr(self, stage) for stage in self.stages[: max(self.frozen_stages, 0)]]
        for module in frozen:
            module.eval()
            module.requires_grad_(False)

    def train(self, mode: bool = True) -> MobileNeXt:
        """Training mode, except what is frozen."""
        super().train(mode)
        self._freeze_stages()
        if mode and self.norm_eval:
            for module in self.modules():
                if isinstance(module, _BatchNorm):
                    module.eval()
        return self


@MODELS.register_module()
class EANMobileNeXt(MobileNeXt):
    """EAN-MobileNeXt: MobileNeXt with an EAN in every full sandglass block.

    Args:
        groups: Channel groups of each EAN. Defaults to 8.
        weight_norm: Weight norm of each EAN, ``'l2'``, ``'rms'`` or ``'l1'``. Defaults to ``'l2'``.
        **kwargs: Every other argument of :class:`MobileNeXt`, ``attention`` excepted.

    Example:
        >>> backbone = dict(type='EANMobileNeXt', groups=8, out_indices=(7,), expansion_indices=(5,))
    """

    def __init__(self, groups: int = 8, weight_norm: str = 'l2', **kwargs) -> None:
        super().__init__(attention=dict(type='EAN', groups=groups, weight_norm=weight_norm), **kwargs)
