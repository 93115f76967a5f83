"""Operations of layers as the papers count them: their rules beside PyTorch's own counter of multiply-adds.

The figures that the papers of this field print are those of `thop <https://github.com/Lyken17/pytorch-OpCounter>`_,
last released in 2022. Its rules, which are told apart by the layer's type: convolutions and linear layers count their
multiply-adds, without bias, half of what :mod:`torch.utils.flop_counter` has; a norm 4 an input (2 without affine
transformation); average pooling an addition an input and a division an output, at a fixed kernel the division alone; a
softmax 3 an input, less 1 a distribution; resizing 1, 5, 11 or 259 an output by its mode; and activations, maximum
pooling and padding nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd
from torch.nn.modules.instancenorm import _InstanceNorm
from torch.nn.modules.pooling import _AdaptiveAvgPoolNd, _AdaptiveMaxPoolNd, _AvgPoolNd, _MaxPoolNd
from torch.utils.flop_counter import conv_flop_count, mm_flop

RESIZING = {'nearest': 1, 'linear': 5, 'bilinear': 11, 'bicubic': 259}


def convolution(module: Any, x: Tensor, output: Tensor) -> int:
    """Multiply-adds of a convolution."""
    return conv_flop_count(list(x.shape), list(module.weight.shape), list(output.shape)) // 2


def linear(module: Any, x: Tensor, output: Tensor) -> int:
    """Multiply-adds of a linear layer."""
    return mm_flop(x.reshape(-1, x.shape[-1]), module.weight.T) // 2


def norm(module: Any, x: Tensor, output: Tensor) -> int:
    """Four an input; two without affine transformation."""
    affine = getattr(module, 'affine', False) or getattr(module, 'elementwise_affine', False)
    return (4 if affine else 2) * x.numel()


def fixed_pool(module: Any, x: Tensor, output: Tensor) -> int:
    """A division an output."""
    return output.numel()


def adaptive_pool(module: Any, x: Tensor, output: Tensor) -> int:
    """An addition an input, and a division an output."""
    window = math.prod(x.shape[2:]) / math.prod(output.shape[2:])
    return int((window + 1) * output.numel())


def softmax(module: Any, x: Tensor, output: Tensor) -> int:
    """An exponential, an addition and a division an input, less one addition a distribution."""
    classes = x.shape[module.dim]
    return x.numel() // classes * (3 * classes - 1)


def resizing(module: Any, x: Tensor, output: Tensor) -> int:
    """By its mode; other modes count nothing."""
    return RESIZING.get(module.mode, 0) * output.numel()


def inputs(module: Any, x: Tensor, output: Tensor) -> int:
    """One an input."""
    return x.numel()


def nothing(module: Any, x: Tensor, output: Tensor) -> int:
    """Count nothing."""
    return 0


RULES: dict[type[nn.Module], Callable[[Any, Tensor, Tensor], int]] = {
    _ConvNd: convolution,
    nn.Linear: linear,
    _BatchNorm: norm,
    nn.LayerNorm: norm,
    _InstanceNorm: norm,
    _AvgPoolNd: fixed_pool,
    _AdaptiveAvgPoolNd: adaptive_pool,
    nn.Softmax: softmax,
    nn.Upsample: resizing,
    nn.PReLU: inputs,
    **dict.fromkeys(
        (
            nn.ReLU,
            nn.LeakyReLU,
            nn.Dropout,
            nn.Sequential,
            nn.PixelShuffle,
            nn.ZeroPad2d,
            _MaxPoolNd,
            _AdaptiveMaxPoolNd,
        ),
        nothing,
    ),
}
