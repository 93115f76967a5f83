"""SA, Shuffle Attention.

Zhang and Yang, 'SA-Net: Shuffle Attention for Deep Convolutional Neural Networks', ICASSP 2021.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from .base import BaseModule, register
from .checks import check_feature_map
from .operations import global_pool


@register
class SA(BaseModule):
    """Shuffle Attention (ICASSP 2021, Eq. 1 to 3), a plugin layer.

    Each group of channels is cut in two halves, one with a channel gate and one with a spatial gate; then the channels
    of the halves are shuffled across the groups::

        y₁ = x₁ · sigmoid(W₁ · mean(x₁) + b₁)               the mean over height and width
        y₂ = x₂ · sigmoid(W₂ · GroupNorm(x₂) + b₂)          the norm with one channel a group

    W₁, b₁, W₂, b₂ and the norm's weight and bias have one number for each of a half's channels, and all groups share
    them: 3 · in_channels / groups parameters. At the start W is 0 and b is 1.

    Args:
        in_channels: Channels of the feature map.
        groups: Number of channel groups. Defaults to 64, as in the paper.
        init_cfg: Initialization config, see :class:`mmengine.model.BaseModule`.

    Raises:
        ValueError: ``in_channels`` isn't divisible by ``2 * groups``.

    Shapes:
        (N, in_channels, H, W) in, the same out.

    Example:
        >>> SA(256, groups=64)(torch.rand(2, 256, 7, 7)).shape
        torch.Size([2, 256, 7, 7])
    """

    gate_layers = ()  # it permutes the channels, so no constant map makes it the identity

    def __init__(self, in_channels: int, groups: int = 64, init_cfg: dict | list[dict] | None = None) -> None:
        super().__init__(init_cfg)
        if groups < 1 or in_channels < 1 or in_channels % (2 * groups):
            possible = [g for g in range(1, in_channels // 2 + 1) if in_channels % (2 * g) == 0]
            raise ValueError(
                f'SA: in_channels={in_channels} must be divisible by 2 * groups={2 * groups}; '
                f'groups can be one of {possible} here'
            )
        self.in_channels = in_channels
        self.groups = groups
        channels = in_channels // (2 * groups)
        self.channel_weight = nn.Parameter(torch.zeros(channels))
        self.channel_bias = nn.Parameter(torch.ones(channels))
        self.spatial_weight = nn.Parameter(torch.zeros(channels))
        self.spatial_bias = nn.Parameter(torch.ones(channels))
        self.norm = nn.GroupNorm(channels, channels)

    def count_operations(self, x: Tensor) -> int:
        """Operations beside those of the layers, see :mod:`ean_mmdet.analysis.complexity`."""
        return global_pool(x[:, : x.shape[1] // 2])

    def forward(self, x: Tensor) -> Tensor:
        """Gate ``x`` of shape (N, in_channels, H, W)."""
        check_feature_map(self, x, self.in_channels)
        first, second = x.unflatten(1, (self.groups, -1)).flatten(0, 1).chunk(2, dim=1)
        channel = first.mean((2, 3), keepdim=True)
        channel = channel * self.channel_weight[:, None, None] + self.channel_bias[:, None, None]
        spatial = self.norm(second) * self.spatial_weight[:, None, None] + self.spatial_bias[:, None, None]
        gated = [first * channel.sigmoid().to(x.dtype), second * spatial.sigmoid().to(x.dtype)]
        return functional.channel_shuffle(torch.cat(gated, dim=1).view_as(x), 2)

    def extra_repr(self) -> str:
        """Describe the module in ``repr``."""
        return f'{self.in_channels}, groups={self.groups}'
