"""The end of a residual block, activation(attention(norm(z)) + identity), in one operation where it can be."""

from __future__ import annotations

from torch import Tensor, nn

from ..attention.base import NotesHooks
from .norm_attention import NormAttention


class ReLU(NotesHooks, nn.ReLU):
    """PyTorch's ReLU, which a block's end computes along unless it has hooks."""


def end_of_block(
    norm: nn.Module, z: Tensor, identity: Tensor, relu: nn.Module | None, convolution: nn.Module
) -> Tensor:
    """relu(norm(z) + identity).

    A norm with an EAN takes addition and ReLU along. Values, gradients and running statistics are the same.

    Args:
        norm: The block's last norm.
        z: What the last convolution gave, shape (N, C, H, W).
        identity: The residual, of its shape.
        relu: The activation; None where there is none. One of another class than :class:`ReLU` is called.
        convolution: The last convolution. Unless hooks may have kept ``z``, the result is written over it where no
            gradient is recorded.
    """
    if isinstance(norm, NormAttention) and not norm.hooked:
        inplace = not convolution._forward_hooks
        if relu is None or (type(relu) is ReLU and not relu.hooked):
            return norm(z, residual=identity, activation=None if relu is None else 'relu', inplace=inplace)
    y = norm(z) + identity
    return y if relu is None else relu(y)
