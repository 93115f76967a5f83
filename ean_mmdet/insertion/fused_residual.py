"""The end of a residual block, activation(attention(norm(z)) + identity), in one operation where it can be."""

from __future__ import annotations

from typing import Any

from torch import nn

from ..attention.base import NotesHooks
from .norm_attention import NormAttention


class ReLU(NotesHooks, nn.ReLU):
    """PyTorch's ReLU, which a block's end computes along unless it has hooks."""


class Conv2d(NotesHooks, nn.Conv2d):
    """PyTorch's convolution, over whose output a block's end is written unless it has hooks, which may have kept it."""


def prepare_end(convolution: nn.Module) -> None:
    """Have a block's last convolution note its hooks, in place. One of another class than PyTorch's is left alone."""
    if type(convolution) is nn.Conv2d:
        convolution.__class__ = Conv2d


def end_of_block(norm: nn.Module, convolution: nn.Module, relu: nn.Module | None = None) -> dict[str, Any] | None:
    """Arguments that a block's last norm, with an EAN, is to be called with so that it takes addition and ReLU along.

    Values, gradients and running statistics are the same.

    Args:
        norm: The block's last norm.
        convolution: The last convolution, see :func:`prepare_end`. The result is written over its output where no
            gradient is recorded.
        relu: The activation; None where there is none.

    Returns:
        Keyword arguments of :class:`.NormAttention`, beside ``residual``; None where it can't take them along.
    """
    if (
        not isinstance(norm, NormAttention)
        or norm.hooked
        or not (relu is None or (type(relu) is ReLU and not relu.hooked))
    ):
        return None
    inplace = type(convolution) is Conv2d and not convolution.hooked
    return dict(activation=None if relu is None else 'relu', inplace=inplace)
