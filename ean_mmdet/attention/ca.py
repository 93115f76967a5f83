"""CA, Coordinate Attention.

Hou, Zhou and Feng, 'Coordinate Attention for Efficient Mobile Network Design', CVPR 2021. The module is timm's.
"""

from __future__ import annotations

from torch import Tensor, nn

from .base import BaseModule, register
from .checks import check_feature_map, check_ratio
from .operations import strip_pools


@register
class CA(BaseModule):
    """Coordinate Attention (CVPR 2021, Eq. 4 to 9), a plugin layer.

    ::

        [f_h, f_w] = h-swish(BN(W₁ · [mean_w(x), mean_h(x)] + b₁))      the means over width and over height
        y = x · sigmoid(W_h · f_h + b_h) · sigmoid(W_w · f_w + b_w)

    Args:
        in_channels: Channels of the feature map.
        ratio: Channels of the feature map over those of the hidden layer, rounded down; the hidden layer has 8 at
            least. The EAN paper's CA-ResNet-50 has 24. Defaults to 32.
        init_cfg: Initialization config, see :class:`mmengine.model.BaseModule`.

    Raises:
        ValueError: ``ratio`` isn't between 1 and ``in_channels``.
        ImportError: timm is older than its ``CoordAttn``.

    Shapes:
        (N, in_channels, H, W) in, the same out.

    Example:
        >>> CA(256, ratio=24)(torch.rand(2, 256, 7, 7)).shape
        torch.Size([2, 256, 7, 7])
    """

    def __init__(self, in_channels: int, ratio: int = 32, init_cfg: dict | list[dict] | None = None) -> None:
        super().__init__(init_cfg)
        # Here rather than above, so that the other modules work with an older timm, too.
        try:
            from timm.layers.coord_attn import CoordAttn
        except ImportError as error:
            raise ImportError('CA is timm 1.0.31\'s CoordAttn: pip install "timm>=1.0.31"') from error
        check_ratio(self, in_channels, ratio)
        self.in_channels = in_channels
        self.gate = CoordAttn(in_channels, rd_channels=max(8, in_channels // ratio), bias=True)

    @property
    def gate_layers(self) -> tuple[nn.Module, ...]:
        """The layers that are last before a sigmoid; zeroed, they make the map constant."""
        return (self.gate.conv_h, self.gate.conv_w)

    def count_operations(self, x: Tensor) -> int:
        """Operations beside those of the layers, see :mod:`ean_mmdet.analysis.complexity`."""
        return strip_pools(x)

    def forward(self, x: Tensor) -> Tensor:
        """Gate ``x`` of shape (N, in_channels, H, W)."""
        check_feature_map(self, x, self.in_channels)
        return self.gate(x)
