"""EAN, the Efficient Attention module guided by Normalization.

Li, Li and Wen, 'EAN: An Efficient Attention Module Guided by Normalization for Deep Neural Networks', AAAI 2024.

The map comes from the feature map's own normalization: standardize each sample's each channel, weight the result with
the relative size of the normalization's own scale, adapt, squash. All groups of channels share the learned vectors,
which is what the paper's parameter counts say.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..ops import WEIGHT_NORMS, ean_gate
from .base import BaseModule, NotesHooks, register
from .checks import check_divisible, check_feature_map


@register
class EAN(NotesHooks, BaseModule):
    """Efficient Attention guided by Normalization (AAAI 2024, Eq. 5 to 9), a plugin layer.

    With k = in_channels // groups and the learned ``weight`` γ, ``bias`` β, ``alpha`` α and ``delta`` δ, each of shape
    (k,) and shared by all groups::

        x̂ = (x − mean) / sqrt(var + eps)            each sample's each channel, over height and width
        ω = γ / ‖γ‖                                  over the k channels of a group
        y = x · sigmoid(α · ω · (γ · x̂ + β) + δ)

    At the start α = δ = 0, so y = x / 2.

    Args:
        in_channels: Channels of the feature map.
        groups: Number of channel groups. The paper takes 64 for large networks and 8 for lightweight ones.
            Defaults to 64.
        weight_norm: The norm that γ is divided by. ``'l2'``: sqrt(Σγ² + eps), Eq. 6. ``'rms'``:
            sqrt(mean γ² + eps), and ``'l1'``: ``mean |γ| + eps``, the two that the authors' classification code has.
            Defaults to ``'l2'``.
        eps: Added to the variance and to the norm. Defaults to 1e-5.
        init_cfg: Initialization config, see :class:`mmengine.model.BaseModule`.

    Raises:
        ValueError: ``in_channels`` isn't divisible by ``groups``, or ``weight_norm`` is unknown.

    Shapes:
        (N, in_channels, H, W) in, the same out.

    Example:
        >>> EAN(256, groups=64)(torch.rand(2, 256, 7, 7)).shape
        torch.Size([2, 256, 7, 7])
    """

    gate_layers = ()  # its map is constant at the start as it is

    def __init__(
        self,
        in_channels: int,
        groups: int = 64,
        weight_norm: str = 'l2',
        eps: float = 1e-5,
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        super().__init__(init_cfg)
        check_divisible(self, in_channels, groups, 'groups')
        if weight_norm not in WEIGHT_NORMS:
            raise ValueError(f'EAN: weight_norm must be one of {", ".join(WEIGHT_NORMS)}, got {weight_norm!r}')
        self.in_channels = in_channels
        self.groups = groups
        self.weight_norm = weight_norm
        self.eps = eps
        channels = in_channels // groups
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.alpha = nn.Parameter(torch.zeros(channels))
        self.delta = nn.Parameter(torch.zeros(channels))

    def forward(
        self, x: Tensor, residual: Tensor | None = None, activation: str | None = None, inplace: bool = False
    ) -> Tensor:
        """Gate ``x`` of shape (N, in_channels, H, W).

        Args:
            x: The feature map.
            residual: Added to the gated map, of its shape. Defaults to None.
            activation: ``'relu'`` or None, applied last. Defaults to None.
            inplace: Whether the result may be written over ``x``, as it is under ``torch.no_grad`` and
                ``torch.inference_mode``; who keeps ``x``, a hook say, then finds the result there. Defaults to False.
        """
        check_feature_map(self, x, self.in_channels)
        vectors = self.weight, self.bias, self.alpha, self.delta
        return ean_gate(x, *vectors, self.weight_norm, self.eps, residual, activation, inplace)

    def extra_repr(self) -> str:
        """Describe the module in ``repr``."""
        return f'{self.in_channels}, groups={self.groups}, weight_norm={self.weight_norm!r}, eps={self.eps}'
