"""Wide ResNet for images of 32 × 32.

Zagoruyko and Komodakis, 'Wide Residual Networks', BMVC 2016: blocks with norm and ReLU before each convolution.
"""

from __future__ import annotations

from mmengine.model import BaseModule
from mmengine.registry import MODELS
from torch import Tensor, nn


class PreActBlock(BaseModule):
    """Norm → ReLU → 3×3 → norm → ReLU → 3×3, plus the input.

    Its convolutions have biases and the second carries the stride, as the EAN paper's 36.55 M parameters and 5.96 G
    operations for WRN-28-10 ask.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        stride: Stride, of the second convolution and of the 1×1 beside them. Defaults to 1.
        init_cfg: Initialization config. Defaults to None.
    """

    def __init__(
        self, in_channels: int, out_channels: int, stride: int = 1, init_cfg: dict | list[dict] | None = None
    ) -> None:
        super().__init__(init_cfg)
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, stride, 1)
        plain = stride == 1 and in_channels == out_channels
        self.shortcut = nn.Identity() if plain else nn.Conv2d(in_channels, out_channels, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) → (N, out_channels, H / stride, W / stride)."""
        branch = self.conv2(self.bn2(self.conv1(self.bn1(x).relu())).relu())
        return branch + self.shortcut(x)


@MODELS.register_module()
class WideResNet(BaseModule):
    """Wide ResNet backbone for CIFAR (BMVC 2016): a stem of stride 1, three stages, a norm and a ReLU.

    Args:
        depth: 6n + 4: 16, 22, 28, 40. Defaults to 28.
        widen_factor: Factor on the stages' 16, 32 and 64 channels. Defaults to 10.
        init_cfg: Initialization config. Defaults to None: Kaiming for convolutions, one for norms.

    Raises:
        ValueError: The depth isn't 6n + 4, or ``widen_factor`` is less than one.

    Shapes:
        (N, 3, H, W) in; a tuple of one, (N, 64 · widen_factor, H / 4, W / 4), out.

    Example:
        >>> backbone = dict(type='WideResNet', depth=28, widen_factor=10)  # WRN-28-10
    """

    def __init__(self, depth: int = 28, widen_factor: int = 10, init_cfg: dict | list[dict] | None = None) -> None:
        if init_cfg is None:
            init_cfg = [dict(type='Kaiming', layer='Conv2d'), dict(type='Constant', val=1, layer='_BatchNorm')]
        super().__init__(init_cfg)
        if depth < 10 or depth % 6 != 4:
            raise ValueError(f'WideResNet: depth must be 6n + 4, as 16, 22, 28 or 40, got {depth}')
        if widen_factor < 1:
            raise ValueError(f'WideResNet: widen_factor must be 1 at least, got {widen_factor}')
        channels = 16
        self.conv1 = nn.Conv2d(3, channels, 3, padding=1)
        self.stages = []
        for index, width in enumerate((16, 32, 64), start=1):
            blocks = []
            for block in range((depth - 4) // 6):
                stride = 2 if index > 1 and block == 0 else 1
                blocks.append(PreActBlock(channels, width * widen_factor, stride))
                channels = width * widen_factor
            self.stages.append(f'layer{index}')
            self.add_module(self.stages[-1], nn.Sequential(*blocks))
        self.bn1 = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> tuple[Tensor]:
        """The feature map behind the last stage, its norm and the ReLU."""
        x = self.conv1(x)
        for stage in self.stages:
            x = getattr(self, stage)(x)
        return (self.bn1(x).relu(),)
