"""EAN as a handful of standard operations, for exporters."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..attention import EAN
from ..insertion import positions
from ..ops.fold import Vectors, fold


class PlainEAN(nn.Module):
    """An EAN whose learned vectors are folded into two, in operations that every runtime has.

    Args:
        ean: The EAN.

    Shapes:
        (N, in_channels, H, W) in, the same out.
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, ean: EAN) -> None:
        super().__init__()
        with torch.no_grad():
            vectors = Vectors(ean.weight, ean.bias, ean.alpha, ean.delta, ean.weight_norm)
            scale, shift = fold(vectors, ean.eps)
        for name, vector in (('scale', scale), ('shift', shift)):
            self.register_buffer(name, vector.detach().clone().repeat(ean.groups).view(1, -1, 1, 1))
        self.eps = ean.eps

    def forward(self, x: Tensor) -> Tensor:
        """Gate ``x``; the formula is Eq. 5 to 9 of the paper (:class:`ean_mmdet.attention.EAN`)."""
        centered = x - x.mean((2, 3), keepdim=True)
        variance = (centered * centered).mean((2, 3), keepdim=True)
        return x * torch.sigmoid(centered / torch.sqrt(variance + self.eps) * self.scale + self.shift)


def replace_eans(model: nn.Module) -> None:
    """Put a :class:`PlainEAN` in the place of every EAN of a model, those that blocks share included."""
    replaced = {ean: PlainEAN(ean) for ean in model.modules() if type(ean) is EAN}
    for module in list(model.modules()):
        for name, child in module.named_children():
            if child in replaced:
                setattr(module, name, replaced[child])
    for position in positions(model):
        position.switch.module = replaced.get(position.switch.module, position.switch.module)
