"""EAN as three standard operations, for exporters."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from ..attention.ean import EAN
from ..insertion import positions
from ..ops.fold import Vectors, fold


class PlainEAN(nn.Module):
    """An EAN whose learned vectors are folded into the two of an instance norm: that norm, a sigmoid, a product.

    Three passes over the map are as few as runtimes of graphs can do; step by step it would be eight.

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
            self.register_buffer(name, vector.detach().clone().repeat(ean.groups))
        self.eps = ean.eps

    def forward(self, x: Tensor) -> Tensor:
        """Gate ``x``; the formula is Eq. 5 to 9 of the paper (:class:`ean_mmdet.attention.EAN`)."""
        # not torch.nn.functional's, which refuses maps of one pixel
        return x * torch.sigmoid(torch.instance_norm(x, self.scale, self.shift, None, None, True, 0.0, self.eps, False))


def translations() -> dict[Callable, Callable]:
    """An instance norm as one ONNX operator, as ``torch.onnx.export`` takes it, which would make nine of it."""
    from onnxscript import opset18 as op

    def onnx_instance_norm(x, weight, bias, mean, var, use_input_stats, momentum, eps: float, cudnn_enabled):
        return op.InstanceNormalization(x, weight, bias, epsilon=eps)

    return {torch.ops.aten.instance_norm.default: onnx_instance_norm}


def replace_eans(model: nn.Module) -> None:
    """Put a :class:`PlainEAN` in the place of every EAN of a model, those that blocks share included."""
    replaced = {ean: PlainEAN(ean) for ean in model.modules() if type(ean) is EAN}
    for module in list(model.modules()):
        for name, child in module.named_children():
            if child in replaced:
                setattr(module, name, replaced[child])
    for position in positions(model):
        position.switch.module = replaced.get(position.switch.module, position.switch.module)
