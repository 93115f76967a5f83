"""SE, Squeeze-and-Excitation.

Hu, Shen and Sun, 'Squeeze-and-Excitation Networks', CVPR 2018. The module is timm's.
"""

from __future__ import annotations

from torch import Tensor, nn

from .base import BaseModule, register
from .checks import check_feature_map, check_ratio
from .operations import global_pool


@register
class SE(BaseModule):
    """Squeeze-and-Excitation (CVPR 2018, Eq. 2 to 4), a plugin layer.

    ::

        y = x · sigmoid(W₂ · ReLU(W₁ · mean(x) + b₁) + b₂)      the mean over height and width

    Args:
        in_channels: Channels of the feature map.
        ratio: Channels of the feature map over those of the hidden layer, rounded down. Defaults to 16.
        init_cfg: Initialization config, see :class:`mmengine.model.BaseModule`.

    Raises:
        ValueError: ``ratio`` leaves no hidden channel.

    Shapes:
        (N, in_channels, H, W) in, the same out.

    Example:
        >>> SE(256, ratio=16)(torch.rand(2, 256, 7, 7)).shape
        torch.Size([2, 256, 7, 7])
    """

    def __init__(self, in_channels: int, ratio: int = 16, init_cfg: dict | list[dict] | None = None) -> None:
        super().__init__(init_cfg)
        check_ratio(self, in_channels, ratio)
        self.in_channels = in_channels
        from timm.layers import SEModule  # here, so that the other modules need no timm

        # The hidden width itself, as timm would round it to a multiple of 8.
        self.gate = SEModule(in_channels, rd_channels=in_channels // ratio)

    @property
    def gate_layers(self) -> tuple[nn.Module, ...]:
        """The layers that are last before a sigmoid; zeroed, they make the map constant."""
        return (self.gate.fc2,)

    def count_operations(self, x: Tensor) -> int:
        """Operations beside those of the layers, see :mod:`ean_mmdet.analysis.complexity`."""
        return global_pool(x)

    def forward(self, x: Tensor) -> Tensor:
        """Gate ``x`` of shape (N, in_channels, H, W)."""
        check_feature_map(self, x, self.in_channels)
        return self.gate(x)
