"""EMA, Efficient Multi-Scale Attention (not the moving average of weights).

Ouyang, He, Zhang, Luo, Guo, Zhan and Huang, 'Efficient Multi-Scale Attention Module with Cross-Spatial Learning',
ICASSP 2023.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .base import BaseModule, register
from .checks import check_divisible, check_feature_map
from .operations import global_pool, strip_pools


@register
class EMA(BaseModule):
    """Efficient Multi-Scale Attention (ICASSP 2023, Figure 3), a plugin layer.

    The channels are in groups of C, which share all layers. Of each group's map x::

        [h, w] = W₁ · [mean_w(x), mean_h(x)] + b₁                   the means over width and over height
        u = GroupNorm(x · sigmoid(h) · sigmoid(w))                  a norm of each channel
        v = conv3×3(x)
        a = softmax(mean(u)) · v + softmax(mean(v)) · u             sums over the channels: one value a position
        y = x · sigmoid(a)

    Args:
        in_channels: Channels of the feature map.
        groups: Groups of channels, ``factor`` in the authors' code. Defaults to 32.
        init_cfg: Initialization config, see :class:`mmengine.model.BaseModule`.

    Raises:
        ValueError: ``groups`` doesn't divide ``in_channels``.

    Shapes:
        (N, in_channels, H, W) in, the same out.

    Example:
        >>> EMA(256)(torch.rand(2, 256, 7, 7)).shape
        torch.Size([2, 256, 7, 7])
    """

    def __init__(self, in_channels: int, groups: int = 32, init_cfg: dict | list[dict] | None = None) -> None:
        super().__init__(init_cfg)
        check_divisible(self, in_channels, groups, 'groups')
        self.in_channels = in_channels
        channels = in_channels // groups
        self.conv1x1 = nn.Conv2d(channels, channels, 1)
        self.conv3x3 = nn.Conv2d(channels, channels, 3, padding=1)
        self.norm = nn.GroupNorm(channels, channels)

    @property
    def gate_layers(self) -> tuple[nn.Module, ...]:
        """The last layers of both branches; zeroed, they make the map constant."""
        return (self.norm, self.conv3x3)

    def count_operations(self, x: Tensor) -> int:
        """Operations beside those of the layers, see :mod:`ean_mmdet.analysis.complexity`."""
        return strip_pools(x) + 2 * global_pool(x) + 2 * x.numel()  # the means, and the two sums over the channels

    def forward(self, x: Tensor) -> Tensor:
        """Gate ``x`` of shape (N, in_channels, H, W)."""
        check_feature_map(self, x, self.in_channels)
        channels, (height, width) = self.conv1x1.in_channels, x.shape[2:]
        grouped = x.reshape(-1, channels, height, width)
        strips = self.conv1x1(torch.cat([grouped.mean(3, True), grouped.mean(2, True).transpose(2, 3)], dim=2))
        rows, columns = strips.split([height, width], dim=2)
        u = self.norm(grouped * rows.sigmoid() * columns.transpose(2, 3).sigmoid())
        v = self.conv3x3(grouped)
        logits = (_weights(u) * v + _weights(v) * u).sum(1, keepdim=True)
        return (grouped * logits.sigmoid().to(x.dtype)).reshape(x.shape)


def _weights(x: Tensor) -> Tensor:
    """Weights of the channels, (N, C, 1, 1): the softmax of their means."""
    return x.mean((2, 3), keepdim=True).softmax(1)
