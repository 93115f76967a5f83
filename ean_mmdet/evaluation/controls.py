"""Controls of a comparison: the same network with an attention map that can't see its input."""

from __future__ import annotations

import torch
from mmengine.model import BaseModule
from mmengine.registry import MODELS
from torch import Tensor, nn


@MODELS.register_module()
class ConstantMask(BaseModule):
    """An attention map of a constant a channel, which begins at a half as EAN's does: (N, C, H, W) → the same.

    Trained, it does what attention could do without looking; fixed, what the halving at the start does alone.

    Args:
        in_channels: Channels C.
        trained: Whether the constants are learned, through a sigmoid. Defaults to True.
        init_cfg: MMEngine's. Defaults to None.
    """

    gate_layers = ()  # the map is constant as it is

    def __init__(self, in_channels: int, trained: bool = True, init_cfg: dict | list[dict] | None = None) -> None:
        super().__init__(init_cfg)
        self.in_channels = in_channels
        self.logits = nn.Parameter(torch.zeros(in_channels)) if trained else None

    def forward(self, x: Tensor) -> Tensor:
        """Multiply by the map."""
        return x * 0.5 if self.logits is None else x * torch.sigmoid(self.logits)[:, None, None]
