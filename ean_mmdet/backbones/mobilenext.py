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

from ..attention.tail import tail, untouched
from .connections import Switch, check_connections, check_unshared, share


class SandglassBlock(BaseModule):
    """The sandglass block: depthwise convolutions at the wide ends, a narrow waist between.

    Its full form is dw 3×3 → pw to the waist (linear) → pw out of it → dw 3×3 (linear) → attention, plus the input
    where shapes allow. Where the width changes inside a stage of several blocks it is shorter: no depthwise
    convolution before the waist, and one behind it only to carry a stride.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        waist_channels: Channels of the waist.
        stride: Stride, of the last depthwise convolution. Defaults to 1.
        full: Whether the block has both depthwise convolutions, and so the attention. Defaults to True.
        attention: Config of the attention module, or None. Defaults to None.
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
        attention: dict | None = None,
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

        def depthwise(channels: int, stride: int, act_cfg: dict | None) -> ConvModule:
            return ConvModule(
                channels, channels, 3, stride, 1, groups=channels, conv_cfg=conv_cfg, norm_cfg=norm_cfg, act_cfg=act_cfg
            )

        def pointwise(in_channels: int, out_channels: int, act_cfg: dict | None) -> ConvModule:
            return ConvModule(in_channels, out_channels, 1, conv_cfg=conv_cfg, norm_cfg=norm_cfg, act_cfg=act_cfg)

        self.depthwise1 = depthwise(in_channels, 1, act_cfg) if full else None
        self.reduce = pointwise(in_channels, waist_channels, None)
        self.expand = pointwise(waist_channels, out_channels, act_cfg)
        self.depthwise2 = depthwise(out_channels, stride, None) if full or stride > 1 else None
        self.attention = MODELS.build(dict(in_channels=out_channels, **attention)) if full and attention else None
        self.switch = Switch()

    def expansion(self, x: Tensor) -> Tensor:
        """The feature behind the waist, at the input's resolution: (N, in_channels, H, W) → (N, out_channels, H, W)."""
        if self.depthwise1 is not None:
            x = self.depthwise1(x)
        return self.expand(self.reduce(x))

    def project(self, x: Tensor, identity: Tensor | None = None) -> Tensor:
        """From the expansion to the block's output, with the identity added. EAN takes norm and addition along."""
        attention = self.attention if self.switch.module is None else self.switch.module
        plugins = [attention] if attention is not None and self.switch.on else []
        layer = self.depthwise2
        if layer is None:
            return tail(x, None, plugins, identity)
        if plugins and untouched(layer) and getattr(layer, 'efficient_conv_bn_eval_forward', None) is None:
            z = layer(x, activate=False, norm=False)
            return tail(z, layer.norm, plugins, identity, owned=untouched(layer.conv))
        return tail(layer(x), None, plugins, identity)

    def block(self, x: Tensor) -> Tensor:
        """The whole block."""
        return self.project(self.expansion(x), x if self.with_shortcut else None)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) → (N, out_channels, H / stride, W / stride)."""
        if self.with_cp and x.requires_grad:
            return checkpoint(self.block, x, use_reentrant=False)
        return self.block(x)


@MODELS.register_module()
class MobileNeXt(BaseModule):
    """MobileNeXt backbone (ECCV 2020).

    Args:
        widen_factor: Factor on the channels of every layer. Defaults to 1.0.
        attention: Config of the attention module in the 15 full sandglass blocks, ``dict(type='SE', ratio=16)``, or
            None. Defaults to None.
        shared: ``'stage'``: one attention module for all blocks of a stage that have the same channels; None: each
            block has its own. Defaults to None.
        connections: A 0 or 1 for each of the 15 blocks, in the order of depth: whether it has attention.
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
        ValueError: An index out of range.

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
        attention: dict | None = None,
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
        self.out_indices = tuple(out_indices)
        self.expansion_indices = tuple(expansion_indices)
        self.frozen_stages = frozen_stages
        self.norm_eval = norm_eval
        common = dict(conv_cfg=conv_cfg, norm_cfg=norm_cfg or dict(type='BN'), act_cfg=act_cfg or dict(type='ReLU6'))

        channels = make_divisible(32 * widen_factor, 8)
        self.stem = ConvModule(3, channels, 3, stride=2, padding=1, **common)
        self.stages = []
        full_blocks = []  # the stage, the block and its channels
        for index, (waist_factor, width, blocks, stride) in enumerate(self.arch_settings):
            layers = []
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
                        attention=None if shared else attention,
                        with_cp=with_cp,
                        **common,
                    )
                )
                if full:
                    full_blocks.append((f'layer{index + 1}', layers[-1], width))
                channels = width
            self.stages.append(f'layer{index + 1}')
            self.add_module(self.stages[-1], nn.Sequential(*layers))
        self._connect(full_blocks, attention, shared, connections, with_cp)
        self._freeze_stages()

    def _connect(
        self,
        blocks: list[tuple[str, SandglassBlock, int]],
        attention: dict | None,
        shared: str | None,
        connections: Sequence[int] | None,
        with_cp: bool,
    ) -> None:
        name = type(self).__name__
        if attention is None:
            if shared is not None or connections is not None:
                raise ValueError(f'{name}: shared and connections need attention to share and connect')
            return
        paths = {id(block): path for path, block in self.named_modules()}
        names = [paths[id(block)] for _, block, _ in blocks]
        scheme = check_connections(name, shared, connections, names)
        check_unshared(name, shared, MODELS.get(attention['type']), with_cp)
        if shared:
            widths = [(stage, width) for stage, _, width in blocks]
            switches = share(self, widths, scheme, lambda width: MODELS.build(dict(in_channels=width, **attention)))
            for (_, block, _), switch in zip(blocks, switches):
                block.switch = switch
        else:
            for (_, block, _), on in zip(blocks, scheme):
                block.switch.on = on
                block.attention = block.attention if on else None
        self.attention_switches = [block.switch for _, block, _ in blocks]
        self.attention_blocks = names

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """The feature maps of ``expansion_indices`` and ``out_indices``, in the order of depth."""
        x = self.stem(x)
        outs = []
        for index, stage in enumerate(self.stages):
            layer = getattr(self, stage)
            if index in self.expansion_indices:
                # A stage's first block has no shortcut, so it is its expansion and its projection.
                expansion = layer[0].expansion(x)
                outs.append(expansion)
                x = layer[1:](layer[0].project(expansion))
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
