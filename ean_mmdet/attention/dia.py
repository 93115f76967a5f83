"""DIA, Dense-and-Implicit Attention.

Huang, Liang, Liang and Yang, 'DIANet: Dense-and-Implicit Attention Network', AAAI 2020.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .base import BaseModule, register
from .checks import check_feature_map, check_ratio
from .operations import global_pool


@register
class DIA(BaseModule):
    """Dense-and-Implicit Attention (AAAI 2020), a plugin layer that the blocks of a stage share.

    An LSTM cell goes from block to block, and its hidden state is the gate (h and c are zero in front of the first)::

        i, f, o, g = W₂ · ReLU(W₁ · mean(x)) + V₂ · ReLU(V₁ · h)       the mean over height and width; with biases
        c ← σ(f) · c + σ(i) · tanh(g)
        h ← σ(o) · σ(c)                                                the sigmoid, where an LSTM has tanh
        y = x · h

    It is for ``shared='stage'``, see :func:`ean_mmdet.attach`: the stage's first position calls :meth:`begin` and its
    last :meth:`end`. Outside of that every call starts from zero.

    Args:
        in_channels: Channels of the feature map.
        ratio: Channels of the feature map over those of the hidden layers, rounded down. Defaults to 4.
        init_cfg: Initialization config, see :class:`mmengine.model.BaseModule`.

    Raises:
        ValueError: ``ratio`` leaves no hidden channel.

    Shapes:
        (N, in_channels, H, W) in, the same out.

    Example:
        >>> backbone = dict(type='WithAttention', backbone=dict(type='mmdet.ResNet', depth=50),
        ...                 attention=dict(type='DIA'), shared='stage')
    """

    def __init__(self, in_channels: int, ratio: int = 4, init_cfg: dict | list[dict] | None = None) -> None:
        super().__init__(init_cfg)
        check_ratio(self, in_channels, ratio)
        self.in_channels = in_channels
        self.of_input, self.of_hidden = (
            nn.Sequential(
                nn.Linear(in_channels, in_channels // ratio),
                nn.ReLU(),
                nn.Linear(in_channels // ratio, 4 * in_channels),
            )
            for _ in range(2)
        )
        self.within = False
        self.state: tuple[Tensor, Tensor] | None = None

    @property
    def gate_layers(self) -> tuple[nn.Module, ...]:
        """The layers that are last before the nonlinearities; zeroed, they make the map constant, 1/4."""
        return (self.of_input[-1], self.of_hidden[-1])

    def begin(self) -> None:
        """A pass through the backbone begins: the next call is the first block's."""
        self.within, self.state = True, None

    def end(self) -> None:
        """End the pass: forget the state."""
        self.within, self.state = False, None

    def count_operations(self, x: Tensor) -> int:
        """Operations beside those of the layers, see :mod:`ean_mmdet.analysis.complexity`."""
        return global_pool(x)

    def forward(self, x: Tensor) -> Tensor:
        """Gate ``x`` of shape (N, in_channels, H, W)."""
        check_feature_map(self, x, self.in_channels)
        pooled = x.mean((2, 3))
        hidden, cell = (torch.zeros_like(pooled),) * 2 if self.state is None else self.state
        i, f, o, g = (self.of_input(pooled) + self.of_hidden(hidden)).chunk(4, dim=1)
        cell = f.sigmoid() * cell + i.sigmoid() * g.tanh()
        hidden = o.sigmoid() * cell.sigmoid()
        if self.within:
            self.state = hidden, cell
        return x * hidden[:, :, None, None].to(x.dtype)
