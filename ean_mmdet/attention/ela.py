"""ELA, Efficient Local Attention, in its four versions.

Xu and Wan, 'ELA: Efficient Local Attention for Deep Convolutional Neural Networks', arXiv 2403.01123, 2024.
"""

from __future__ import annotations

from torch import Tensor, nn

from .base import BaseModule, register
from .checks import check_divisible, check_feature_map
from .operations import strip_pools

VARIANTS = ('T', 'B', 'S', 'L')


@register
class ELA(BaseModule):
    """Efficient Local Attention (2024), a plugin layer: a gate for each row and one for each column.

    ::

        a_h = sigmoid(GroupNorm(conv(mean_w(x))))           the mean over width: a sequence of length H
        a_w = sigmoid(GroupNorm(conv(mean_h(x))))           the mean over height: a sequence of length W
        y = x · a_h · a_w

    The 1-D convolution has no bias and keeps the length. Both sequences go through the same convolution and the same
    norm, as in the paper's code (its Figure 4).

    Args:
        in_channels: Channels of the feature map.
        variant: The version by its name, or its three numbers: kernel of the convolution, groups of the convolution,
            groups of the norm. The paper's versions are ``'T'``: (5, in_channels, 32), ``'B'``: (7, in_channels, 16),
            ``'S'``: (5, in_channels // 8, 16) and ``'L'``: (7, in_channels // 8, 16). Defaults to ``'B'``.
        init_cfg: Initialization config, see :class:`mmengine.model.BaseModule`.

    Raises:
        ValueError: ``variant`` is unknown, the kernel isn't odd, or groups don't divide ``in_channels``.

    Shapes:
        (N, in_channels, H, W) in, the same out.

    Example:
        >>> ELA(256, variant='B')(torch.rand(2, 256, 7, 7)).shape
        torch.Size([2, 256, 7, 7])
    """

    def __init__(
        self,
        in_channels: int,
        variant: str | tuple[int, int, int] = 'B',
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        super().__init__(init_cfg)
        if isinstance(variant, str) and variant in VARIANTS:
            if variant in 'SL' and in_channels % 8:
                raise ValueError(
                    f'ELA: variant {variant!r} has 8 channels a group, so in_channels must be divisible by 8, '
                    f'got {in_channels}'
                )
            kernel_size = 5 if variant in 'TS' else 7
            conv_groups = in_channels if variant in 'TB' else in_channels // 8
            norm_groups = 32 if variant == 'T' else 16
        elif not isinstance(variant, str) and len(variant) == 3:
            kernel_size, conv_groups, norm_groups = variant
        else:
            raise ValueError(
                f'ELA: variant must be one of {", ".join(VARIANTS)} or three numbers, (kernel, groups of the '
                f'convolution, groups of the norm), got {variant!r}'
            )
        if kernel_size < 1 or kernel_size % 2 == 0:
            raise ValueError(f'ELA: the kernel must be an odd number, got {kernel_size}')
        check_divisible(self, in_channels, conv_groups, 'groups of the convolution')
        check_divisible(self, in_channels, norm_groups, 'groups of the norm')
        self.in_channels = in_channels
        self.conv = nn.Conv1d(
            in_channels, in_channels, kernel_size, padding=kernel_size // 2, groups=conv_groups, bias=False
        )
        self.norm = nn.GroupNorm(norm_groups, in_channels)

    @property
    def gate_layers(self) -> tuple[nn.Module, ...]:
        """The layers that are last before a sigmoid; zeroed, they make the map constant."""
        return (self.norm,)

    def count_operations(self, x: Tensor) -> int:
        """Operations beside those of the layers, see :mod:`ean_mmdet.analysis.complexity`."""
        return strip_pools(x)

    def forward(self, x: Tensor) -> Tensor:
        """Gate ``x`` of shape (N, in_channels, H, W)."""
        check_feature_map(self, x, self.in_channels)
        rows, columns = (self.norm(self.conv(x.mean(dim))).sigmoid().to(x.dtype) for dim in (3, 2))
        return x * rows.unsqueeze(3) * columns.unsqueeze(2)
