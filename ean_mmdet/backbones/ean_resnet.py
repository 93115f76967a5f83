"""ResNet with EAN after the last norm of every block, fused with that norm, the residual addition and the ReLU.

Place: Li, Li and Wen, AAAI 2024, 'Integration Strategy'. Everything else is MMDetection's ResNet.
"""

from __future__ import annotations

from collections.abc import Sequence

from mmdet.models.backbones import ResNet
from mmdet.models.backbones.resnet import BasicBlock, Bottleneck
from mmengine.registry import MODELS
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ..attention.ean import EAN
from ..insertion import Position
from ..insertion.attach import insert
from ..insertion.fused_residual import ReLU, end_of_block, prepare_end


class FusedResidual:
    """A residual block of MMDetection's whose last norm, attention, addition and ReLU are one operation.

    The keys are MMDetection's.
    """

    # MMDetection's
    downsample: nn.Module | None
    relu: nn.Module
    with_cp: bool

    def branch(self, x: Tensor) -> Tensor:
        """Compute the output of the last convolution."""
        raise NotImplementedError

    def last(self) -> tuple[nn.Module, nn.Module, list[str]]:
        """The last convolution, its norm, and the names of the plugins behind them."""
        raise NotImplementedError

    def forward(self, x: Tensor, checkpointed: bool = False) -> Tensor:
        """(N, inplanes, H, W) → (N, planes · expansion, H / stride, W / stride)."""
        if self.with_cp and x.requires_grad and not checkpointed:
            return checkpoint(self.forward, x, True, use_reentrant=False)
        z = self.branch(x)
        identity = x if self.downsample is None else self.downsample(x)
        convolution, norm, plugins = self.last()
        if plugins:
            return self.relu(self.forward_plugin(norm(z), plugins) + identity)  # type: ignore[attr-defined]
        along = end_of_block(norm, convolution, self.relu)
        return self.relu(norm(z) + identity) if along is None else norm(z, residual=identity, **along)


class EANBottleneck(FusedResidual, Bottleneck):
    """MMDetection's bottleneck with the fused end. Its arguments."""

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self.relu = ReLU(inplace=True)
        prepare_end(self.conv3)

    def branch(self, x: Tensor) -> Tensor:
        """Compute the output of the last convolution."""
        out = self.relu(self.norm1(self.conv1(x)))
        if self.with_plugins:
            out = self.forward_plugin(out, self.after_conv1_plugin_names)
        out = self.relu(self.norm2(self.conv2(out)))
        if self.with_plugins:
            out = self.forward_plugin(out, self.after_conv2_plugin_names)
        return self.conv3(out)

    def last(self) -> tuple[nn.Module, nn.Module, list[str]]:
        """Return the last convolution, its norm, and the names of the plugins behind it."""
        return self.conv3, self.norm3, self.after_conv3_plugin_names if self.with_plugins else []


class EANBasicBlock(FusedResidual, BasicBlock):
    """MMDetection's basic block with the fused end, taking plugins at ``'after_conv1'`` and ``'after_conv2'``.

    Args:
        plugins: ``dict(cfg=dict(type=…), position=…)`` each.
        **kwargs: Those of MMDetection's ``BasicBlock``.
    """

    positions = ('after_conv1', 'after_conv2')
    make_block_plugins = Bottleneck.make_block_plugins
    forward_plugin = Bottleneck.forward_plugin

    def __init__(self, inplanes: int, planes: int, plugins: list[dict] | None = None, **kwargs) -> None:
        super().__init__(inplanes, planes, **kwargs)
        self.relu = ReLU(inplace=True)
        prepare_end(self.conv2)
        plugins = plugins or []
        for plugin in plugins:
            if plugin['position'] not in self.positions:
                raise ValueError(
                    f'plugin {plugin["cfg"]["type"]}: a basic block takes plugins at {" and ".join(self.positions)}, '
                    f'not at {plugin["position"]!r}'
                )
        self.after_conv1_plugin_names, self.after_conv2_plugin_names = (
            self.make_block_plugins(planes, [plugin['cfg'] for plugin in plugins if plugin['position'] == position])
            for position in self.positions
        )

    def branch(self, x: Tensor) -> Tensor:
        """Compute the output of the last convolution."""
        out = self.relu(self.norm1(self.conv1(x)))
        return self.conv2(self.forward_plugin(out, self.after_conv1_plugin_names))

    def last(self) -> tuple[nn.Module, nn.Module, list[str]]:
        """Return the last convolution, its norm, and the names of the plugins behind it."""
        return self.conv2, self.norm2, self.after_conv2_plugin_names


@MODELS.register_module()
class EANResNet(ResNet):
    """EAN-ResNet: MMDetection's ResNet with an EAN in every block.

    Args:
        depth: 18, 34, 50, 101 or 152.
        groups: Channel groups of each EAN. Defaults to 64.
        weight_norm: Weight norm of each EAN, ``'l2'``, ``'rms'`` or ``'l1'``. Defaults to ``'l2'``.
        plugins: Further plugins, as MMDetection's ResNet takes them; those behind the same norm come after EAN.
            In depths 18 and 34 the positions are ``'after_conv1'`` and ``'after_conv2'``. Defaults to None.
        shared: ``'stage'``: one EAN for all blocks of a stage, the first block's; None: each block has its own.
            Defaults to None.
        connections: A 0 or 1 for each block, in the order of depth: whether it has attention. Defaults to None, all.
        **kwargs: Every other argument of MMDetection's ResNet.

    Shapes:
        (N, 3, H, W) in; a tuple of the stages in ``out_indices`` out, with strides 4, 8, 16 and 32 and, at depth 50,
        256, 512, 1024 and 2048 channels.

    Example:
        >>> backbone = dict(type='EANResNet', depth=50, frozen_stages=1, norm_eval=True)
    """

    arch_settings = {  # noqa: RUF012, overrides the base class's
        depth: (EANBasicBlock if block is BasicBlock else EANBottleneck, blocks)
        for depth, (block, blocks) in ResNet.arch_settings.items()
    }

    def __init__(
        self,
        depth: int,
        groups: int = 64,
        weight_norm: str = 'l2',
        plugins: list[dict] | None = None,
        shared: str | None = None,
        connections: Sequence[int] | None = None,
        **kwargs,
    ) -> None:
        if depth not in self.arch_settings:
            raise ValueError(f'EANResNet: depth must be one of {sorted(self.arch_settings)}, got {depth}')
        last = 2 if self.arch_settings[depth][0] is EANBasicBlock else 3
        super().__init__(depth, plugins=plugins, **kwargs)
        places = []
        for layer in self.res_layers:
            for index, block in enumerate(getattr(self, layer)):
                norm, channels = getattr(block, f'norm{last}_name'), getattr(block, f'conv{last}').out_channels
                places.append(Position(f'{layer}.{index}.{norm}', channels, layer))

        def build(place: Position) -> EAN:
            return EAN(place.channels, groups, weight_norm)

        insert(self, places, build, shared, connections, 'EANResNet')
        self._freeze_stages()
        # MMDetection does this for its own two blocks alone.
        if self.zero_init_residual and kwargs.get('init_cfg') is None and kwargs.get('pretrained') is None:
            for layer in self.res_layers:
                for block in getattr(self, layer):
                    block.init_cfg = dict(type='Constant', val=0, override=dict(name=f'norm{last}'))

    def train(self, mode: bool = True) -> EANResNet:
        """Training mode, except what is frozen. Returns the backbone, as PyTorch's does and MMDetection's doesn't."""
        super().train(mode)
        return self
