"""GC, the Global Context block.

Cao, Xu, Lin, Wei and Hu, 'GCNet: Non-local Networks Meet Squeeze-Excitation Networks and Beyond', ICCV Workshops 2019.
The module is timm's.
"""

from __future__ import annotations

from torch import Tensor, nn

from .base import BaseModule, register
from .checks import check_feature_map, check_ratio


@register
class GC(BaseModule):
    """Global Context block (2019, Eq. 4 and 5), a plugin layer.

    ::

        context = Σ softmax(w · x + b) x                                over all positions: (N, in_channels)
        t = W₂ · ReLU(LayerNorm(W₁ · context + b₁)) + b₂
        y = x + t  or  x · sigmoid(t)                                   by ``fusion``

    Args:
        in_channels: Channels of the feature map.
        ratio: Channels of the feature map over those of the hidden layer, rounded down. Defaults to 16.
        fusion: ``'add'``, the paper's, or ``'scale'``. Defaults to ``'add'``.
        init_cfg: Initialization config, see :class:`mmengine.model.BaseModule`.

    Raises:
        ValueError: ``ratio`` leaves no hidden channel, or ``fusion`` is unknown.

    Shapes:
        (N, in_channels, H, W) in, the same out.

    Example:
        >>> GC(256)(torch.rand(2, 256, 7, 7)).shape
        torch.Size([2, 256, 7, 7])
    """

    def __init__(
        self, in_channels: int, ratio: int = 16, fusion: str = 'add', init_cfg: dict | list[dict] | None = None
    ) -> None:
        super().__init__(init_cfg)
        check_ratio(self, in_channels, ratio)
        if fusion not in ('add', 'scale'):
            raise ValueError(f"GC: fusion must be 'add' or 'scale', got {fusion!r}")
        self.in_channels = in_channels
        from timm.layers import GlobalContext  # here, so that the other modules need no timm

        self.gate = GlobalContext(
            in_channels, fuse_add=fusion == 'add', fuse_scale=fusion == 'scale', rd_channels=in_channels // ratio
        )

    @property
    def gate_layers(self) -> tuple[nn.Module, ...]:
        """The last layer; zeroed, it makes the block ``x`` (``'add'``) or ``x / 2`` (``'scale'``)."""
        return ((self.gate.mlp_add or self.gate.mlp_scale).fc2,)

    def count_operations(self, x: Tensor) -> int:
        """Operations of the softmax and of the weighted sum, see :mod:`ean_mmdet.analysis.complexity`."""
        batch, channels, height, width = x.shape
        return batch * ((channels + 3) * height * width - 1)

    def forward(self, x: Tensor) -> Tensor:
        """Add to ``x`` of shape (N, in_channels, H, W), or gate it."""
        check_feature_map(self, x, self.in_channels)
        return self.gate(x)
