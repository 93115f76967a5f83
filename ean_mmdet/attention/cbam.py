"""CBAM, the Convolutional Block Attention Module.

Woo, Park, Lee and Kweon, 'CBAM: Convolutional Block Attention Module', ECCV 2018. The two gates are timm's, the
spatial one without the batch norm that timm puts behind its convolution and the paper's formula doesn't have.
"""

from __future__ import annotations

from torch import Tensor, nn

from .base import BaseModule, register
from .checks import check_feature_map, check_ratio
from .operations import global_pool


@register
class CBAM(BaseModule):
    """CBAM (ECCV 2018, Eq. 1 to 3), a plugin layer: a channel gate, then a spatial one.

    ::

        z = x · sigmoid(MLP(mean(x)) + MLP(max(x)))             mean and maximum over height and width
        y = z · sigmoid(conv₇ₓ₇([mean(z), max(z)]))             mean and maximum over the channels

    with MLP(s) = W₂ · ReLU(W₁ · s). No layer has a bias, and the convolution has no norm.

    Args:
        in_channels: Channels of the feature map.
        ratio: Channels of the feature map over those of the hidden layer, rounded down. Defaults to 16.
        kernel_size: Kernel of the spatial convolution, an odd number. Defaults to 7.
        init_cfg: Initialization config, see :class:`mmengine.model.BaseModule`.

    Raises:
        ValueError: ``ratio`` leaves no hidden channel, or ``kernel_size`` isn't odd.

    Shapes:
        (N, in_channels, H, W) in, the same out.

    Example:
        >>> CBAM(256, ratio=16)(torch.rand(2, 256, 7, 7)).shape
        torch.Size([2, 256, 7, 7])
    """

    def __init__(
        self,
        in_channels: int,
        ratio: int = 16,
        kernel_size: int = 7,
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        super().__init__(init_cfg)
        check_ratio(self, in_channels, ratio)
        if kernel_size < 1 or kernel_size % 2 == 0:
            raise ValueError(f'CBAM: kernel_size must be an odd number, got {kernel_size}')
        self.in_channels = in_channels
        from timm.layers.cbam import ChannelAttn, SpatialAttn  # here, so that the other modules need no timm

        self.channel_gate = ChannelAttn(in_channels, rd_channels=in_channels // ratio, mlp_bias=False)
        self.spatial_gate = SpatialAttn(kernel_size)
        conv = nn.Conv2d(2, 1, kernel_size, padding=kernel_size // 2, bias=False)
        self.spatial_gate.add_module('conv', conv)

    @property
    def gate_layers(self) -> tuple[nn.Module, ...]:
        """The layers that are last before a sigmoid; zeroed, they make the map constant."""
        return (self.channel_gate.fc2, self.spatial_gate.conv)

    def count_operations(self, x: Tensor) -> int:
        """Operations beside those of the layers, see :mod:`ean_mmdet.analysis.complexity`."""
        return global_pool(x)

    def forward(self, x: Tensor) -> Tensor:
        """Gate ``x`` of shape (N, in_channels, H, W)."""
        check_feature_map(self, x, self.in_channels)
        return self.spatial_gate(self.channel_gate(x))
