"""SGE, Spatial Group-wise Enhance.

Li, Li and Yang, 'Spatial Group-wise Enhance: Enhancing Semantic Feature Learning in CNN', ACCV 2022.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .base import BaseModule, register
from .checks import check_divisible, check_feature_map
from .operations import global_pool


@register
class SGE(BaseModule):
    """Spatial Group-wise Enhance (ACCV 2022, Eq. 1 to 4), a plugin layer.

    In each group of channels, with g the group's mean over height and width::

        c = Σ g · x                                         the dot product over the group's channels, at each position
        ĉ = (c − mean(c)) / (std(c) + eps)                  over height and width, the biased deviation
        y = x · sigmoid(weight · ĉ + bias)                  one weight and one bias a group

    At the start the weights are 0 and the biases 1, so y = x · sigmoid(1).

    Args:
        in_channels: Channels of the feature map.
        groups: Number of channel groups. Defaults to 64, as in the paper.
        eps: Added to the standard deviation. Defaults to 1e-5.
        init_cfg: Initialization config, see :class:`mmengine.model.BaseModule`.

    Raises:
        ValueError: ``in_channels`` isn't divisible by ``groups``.

    Shapes:
        (N, in_channels, H, W) in, the same out.

    Example:
        >>> SGE(256, groups=64)(torch.rand(2, 256, 7, 7)).shape
        torch.Size([2, 256, 7, 7])
    """

    gate_layers = ()  # its map is constant at the start as it is

    def __init__(
        self,
        in_channels: int,
        groups: int = 64,
        eps: float = 1e-5,
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        super().__init__(init_cfg)
        check_divisible(self, in_channels, groups, 'groups')
        self.in_channels = in_channels
        self.groups = groups
        self.eps = eps
        self.weight = nn.Parameter(torch.zeros(groups))
        self.bias = nn.Parameter(torch.ones(groups))

    def count_operations(self, x: Tensor) -> int:
        """Operations beside those of the layers, see :mod:`ean_mmdet.analysis.complexity`."""
        return global_pool(x)

    def forward(self, x: Tensor) -> Tensor:
        """Gate ``x`` of shape (N, in_channels, H, W)."""
        check_feature_map(self, x, self.in_channels)
        # Statistics in float32 at least: the dot products overflow half precision.
        grouped = x.to(torch.promote_types(x.dtype, torch.float32)).unflatten(1, (self.groups, -1))
        similarity = (grouped * grouped.mean((3, 4), keepdim=True)).sum(2)
        variance, mean = torch.var_mean(similarity, (2, 3), correction=0, keepdim=True)
        # The root's slope at zero is infinite, and a constant plane has no variance.
        deviation = variance.clamp(min=1e-20).sqrt()
        normalized = (similarity - mean) / (deviation + self.eps)
        attention_map = torch.sigmoid(normalized * self.weight[:, None, None] + self.bias[:, None, None])
        return (x.unflatten(1, (self.groups, -1)) * attention_map.to(x.dtype).unsqueeze(2)).flatten(1, 2)

    def extra_repr(self) -> str:
        """Describe the module in ``repr``."""
        return f'{self.in_channels}, groups={self.groups}, eps={self.eps}'
