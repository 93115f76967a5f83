"""EAN's four learned vectors, folded into a scale and a shift a channel.

Li, Li and Wen, 'EAN: An Efficient Attention Module Guided by Normalization for Deep Neural Networks', AAAI 2024, Eq. 5
to 9. With ω = γ / ‖γ‖ the attention map's argument is α · ω · (γ · x̂ + β) + δ = scale · x̂ + shift::

    scale = α · ω · γ        shift = α · ω · β + δ
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

WEIGHT_NORMS = ('l2', 'rms', 'l1')


class Vectors(NamedTuple):
    """γ, β, α and δ, each of shape (C / G,) for the G groups of channels that share them.

    Without γ and β there is nothing to fold: α is the scale and δ the shift.
    """

    weight: Tensor | None
    bias: Tensor | None
    alpha: Tensor
    delta: Tensor
    weight_norm: str
    """‖γ‖ is ``'l2'``: sqrt(Σγ² + eps), ``'rms'``: sqrt(mean γ² + eps), ``'l1'``: mean |γ| + eps."""


def fold(vectors: Vectors, eps: float) -> tuple[Tensor, Tensor]:
    """The scale and the shift, differentiable."""
    weight, bias, alpha, delta, _ = vectors
    if weight is None or bias is None:
        return alpha.contiguous(), delta.contiguous()
    adapted = alpha * weight * _inverse_norm(weight, vectors.weight_norm, eps)
    return adapted * weight, torch.addcmul(delta, adapted, bias)


def fold_gradients(vectors: Vectors, eps: float, dscale: Tensor, dshift: Tensor) -> tuple[Tensor | None, ...]:
    """Gradients of γ, β, α and δ from those of scale and shift."""
    weight, bias, alpha, _, weight_norm = vectors
    if weight is None or bias is None:
        return None, None, dscale, dshift
    inverse_norm = _inverse_norm(weight, weight_norm, eps)
    adapted = alpha * weight * inverse_norm
    common = torch.addcmul(dscale * weight, dshift, bias) * inverse_norm
    dalpha = common * weight
    dweight = torch.addcmul(dscale * adapted, common, alpha)
    # What the norm of γ adds: the logarithm of 1 / ‖γ‖ has the gradient −γ / ‖γ‖² (l2).
    towards_norm = torch.dot(dalpha, alpha) * inverse_norm
    if weight_norm == 'l1':
        dweight.addcmul_(weight.sign(), towards_norm, value=-1 / len(weight))
    else:
        mean = len(weight) if weight_norm == 'rms' else 1
        dweight.addcmul_(weight, towards_norm * inverse_norm, value=-1 / mean)
    return dweight, dshift * adapted, dalpha, dshift


def _inverse_norm(weight: Tensor, weight_norm: str, eps: float) -> Tensor:
    if weight_norm == 'l2':
        return (torch.dot(weight, weight) + eps).rsqrt()
    if weight_norm == 'rms':
        return (torch.dot(weight, weight) / len(weight) + eps).rsqrt()
    return (weight.abs().mean() + eps).reciprocal()
