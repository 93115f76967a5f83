"""SimAM, the simple, parameter-free attention module.

Yang, Zhang, Li and Xie, 'SimAM: A Simple, Parameter-Free Attention Module for Convolutional Neural Networks',
ICML 2021.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .base import BaseModule, register
from .checks import check_feature_map


@register
class SimAM(BaseModule):
    """SimAM (ICML 2021, Eq. 5 and 6), a plugin layer without parameters.

    In each sample's each channel, m being the mean and M the number of positions::

        s² = Σ (x − m)² / (M − 1)
        y  = x · sigmoid((x − m)² / (4 · (s² + eps)) + ½)

    Args:
        in_channels: Channels of the feature map.
        eps: λ of the paper, added to the variance. Defaults to 1e-4.
        init_cfg: Initialization config, see :class:`mmengine.model.BaseModule`.

    Raises:
        ValueError: ``eps`` isn't positive.

    Shapes:
        (N, in_channels, H, W) in, the same out.

    Example:
        >>> SimAM(256)(torch.rand(2, 256, 7, 7)).shape
        torch.Size([2, 256, 7, 7])
    """

    gate_layers = ()  # it has no layers, and its map is never constant

    def __init__(self, in_channels: int, eps: float = 1e-4, init_cfg: dict | list[dict] | None = None) -> None:
        super().__init__(init_cfg)
        if eps <= 0:
            raise ValueError(f'SimAM: eps must be positive, got {eps}')
        self.in_channels = in_channels
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """Gate ``x`` of shape (N, in_channels, H, W)."""
        check_feature_map(self, x, self.in_channels)
        # In float32 at least: squares overflow half precision.
        values = x.to(torch.promote_types(x.dtype, torch.float32))
        square = (values - values.mean((2, 3), keepdim=True)).square()
        # A single position has no spread; it is its plane's mean.
        variance = square.sum((2, 3), keepdim=True) / max(x.shape[2] * x.shape[3] - 1, 1)
        return x * (square / (4 * (variance + self.eps)) + 0.5).sigmoid().to(x.dtype)
