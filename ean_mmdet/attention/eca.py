"""ECA, Efficient Channel Attention.

Wang, Wu, Zhu, Li, Zuo and Hu, 'ECA-Net: Efficient Channel Attention for Deep Convolutional Neural Networks',
CVPR 2020. The module is timm's.
"""

from __future__ import annotations

from torch import Tensor, nn

from .base import BaseModule, register
from .checks import check_feature_map
from .operations import global_pool


@register
class ECA(BaseModule):
    """Efficient Channel Attention (CVPR 2020, Eq. 9 and 12), a plugin layer.

    ::

        y = x · sigmoid(conv_k(mean(x)))        the mean over height and width, the convolution over the channels

    Args:
        in_channels: Channels of the feature map.
        kernel_size: Kernel k of the convolution, an odd number. Defaults to None, which takes the odd number nearest
            to (log₂(in_channels) + 1) / 2, and 3 at least.
        init_cfg: Initialization config, see :class:`mmengine.model.BaseModule`.

    Raises:
        ValueError: ``kernel_size`` isn't odd.

    Shapes:
        (N, in_channels, H, W) in, the same out.

    Example:
        >>> ECA(256)(torch.rand(2, 256, 7, 7)).shape
        torch.Size([2, 256, 7, 7])
    """

    def __init__(
        self, in_channels: int, kernel_size: int | None = None, init_cfg: dict | list[dict] | None = None
    ) -> None:
        super().__init__(init_cfg)
        if kernel_size is not None and (kernel_size < 1 or kernel_size % 2 == 0):
            raise ValueError(f'ECA: kernel_size must be an odd number or None, got {kernel_size}')
        self.in_channels = in_channels
        from timm.layers import EcaModule  # here, so that the other modules need no timm

        self.gate = EcaModule(in_channels) if kernel_size is None else EcaModule(kernel_size=kernel_size)

    @property
    def gate_layers(self) -> tuple[nn.Module, ...]:
        """The layers that are last before a sigmoid; zeroed, they make the map constant."""
        return (self.gate.conv,)

    def count_operations(self, x: Tensor) -> int:
        """Operations beside those of the layers, see :mod:`ean_mmdet.analysis.complexity`."""
        return global_pool(x)

    def forward(self, x: Tensor) -> Tensor:
        """Gate ``x`` of shape (N, in_channels, H, W)."""
        check_feature_map(self, x, self.in_channels)
        return self.gate(x)
