"""PdfAM, the attention module guided by a probability density function.

Xie and Zhang, 'Less Is More Important: An Attention Module Guided by Probability Density Function for Convolutional
Neural Networks', AAAI 2023. The version with one Gaussian.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from .base import BaseModule, register
from .checks import check_feature_map


@register
class PdfAM(BaseModule):
    """PdfAM with a Gaussian (AAAI 2023), a plugin layer: the likelier a value is in its plane, the less it counts.

    In each sample's each channel, m being the mean and M the number of positions::

        s² = Σ (x − m)² / (M − 1) + eps
        p  = exp(−w · (x − m)² / (2 · s²)) / sqrt(2π · s²)
        y  = x / (1 + e + c · p)

    The width w, the coefficient c and the offset e are the softplus of one learned value a channel each, which start
    at 1, 1 and 0.

    Args:
        in_channels: Channels of the feature map.
        eps: Added to the variance. Defaults to 1e-4.
        init_cfg: Initialization config, see :class:`mmengine.model.BaseModule`.

    Shapes:
        (N, in_channels, H, W) in, the same out.

    Example:
        >>> PdfAM(256)(torch.rand(2, 256, 7, 7)).shape
        torch.Size([2, 256, 7, 7])
    """

    gate_layers = ()  # its map has no last layer

    def __init__(self, in_channels: int, eps: float = 1e-4, init_cfg: dict | list[dict] | None = None) -> None:
        super().__init__(init_cfg)
        if in_channels < 1:
            raise ValueError(f'PdfAM: in_channels must be 1 at least, got {in_channels}')
        self.in_channels = in_channels
        self.eps = eps
        self.width = nn.Parameter(torch.ones(in_channels))
        self.coefficient = nn.Parameter(torch.ones(in_channels))
        self.offset = nn.Parameter(torch.zeros(in_channels))

    def forward(self, x: Tensor) -> Tensor:
        """Gate ``x`` of shape (N, in_channels, H, W)."""
        check_feature_map(self, x, self.in_channels)
        # In float32 at least: squares overflow half precision.
        values = x.to(torch.promote_types(x.dtype, torch.float32))
        square = (values - values.mean((2, 3), keepdim=True)).square()
        # A single position has no spread; it is its plane's mean.
        variance = square.sum((2, 3), keepdim=True) / max(x.shape[2] * x.shape[3] - 1, 1) + self.eps
        width, coefficient, offset = (
            functional.softplus(p)[:, None, None] for p in (self.width, self.coefficient, self.offset)
        )
        density = torch.exp(-width * square / (2 * variance)) / (2 * torch.pi * variance).sqrt()
        return x / (1 + offset + coefficient * density).to(x.dtype)

    def extra_repr(self) -> str:
        """Describe the module in ``repr``."""
        return f'{self.in_channels}, eps={self.eps}'
