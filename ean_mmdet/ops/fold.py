"""EAN's four learned vectors folded into the scale and the shift of :func:`.norm_gate`.

Li, Li and Wen, 'EAN: An Efficient Attention Module Guided by Normalization for Deep Neural Networks', AAAI 2024.
"""

from __future__ import annotations

import torch
from torch import Tensor

WEIGHT_NORMS = ('l2', 'rms', 'l1')


def fold_ean(
    weight: Tensor, bias: Tensor, alpha: Tensor, delta: Tensor, weight_norm: str = 'l2', eps: float = 1e-5
) -> tuple[Tensor, Tensor]:
    """Fold γ, β, α and δ, each of shape (k,), into one scale and one shift.

    α · ω · (γ · x̂ + β) + δ = scale · x̂ + shift, with ω = γ / ‖γ‖ (Eq. 6), scale = α · ω · γ and
    shift = α · ω · β + δ. There are no second derivatives.

    Args:
        weight: γ, the scale of the normalization.
        bias: β, the shift of the normalization.
        alpha: α, the scale of the adaptation.
        delta: δ, the shift of the adaptation.
        weight_norm: ‖γ‖ is ``'l2'``: sqrt(Σγ² + eps), ``'rms'``: sqrt(mean γ² + eps), ``'l1'``: mean |γ| + eps.
            Defaults to ``'l2'``.
        eps: Added to the norm. Defaults to 1e-5.

    Returns:
        The scale and the shift, of shape (k,), in float32 at least.
    """
    dtype = torch.float64 if weight.dtype == torch.float64 else torch.float32
    vectors = (p if p.dtype == dtype else p.to(dtype) for p in (weight, bias, alpha, delta))
    fold = _Fold.apply if torch.is_grad_enabled() else _fold
    scale, shift, *_ = fold(*vectors, weight_norm, eps)
    return scale, shift


def _fold(weight, bias, alpha, delta, weight_norm, eps):
    if weight_norm == 'l2':
        inverse_norm = torch.dot(weight, weight).add_(eps).rsqrt_()
    elif weight_norm == 'rms':
        inverse_norm = torch.dot(weight, weight).div_(len(weight)).add_(eps).rsqrt_()
    else:
        inverse_norm = weight.abs().mean().add_(eps).reciprocal_()
    adapted = (alpha * weight).mul_(inverse_norm)
    return adapted * weight, torch.addcmul(delta, adapted, bias), adapted, inverse_norm


class _Fold(torch.autograd.Function):
    """Autograd's own gradient of these few numbers takes longer than the gate itself on small feature maps."""

    @staticmethod
    def forward(ctx, weight, bias, alpha, delta, weight_norm, eps):
        scale, shift, adapted, inverse_norm = _fold(weight, bias, alpha, delta, weight_norm, eps)
        ctx.save_for_backward(weight, bias, alpha, adapted, inverse_norm)
        ctx.weight_norm = weight_norm
        return scale, shift

    @staticmethod
    def backward(ctx, dscale, dshift):
        gradients = _fold_gradients if not torch.is_grad_enabled() else _FoldGradients.apply
        return *gradients(*ctx.saved_tensors, dscale, dshift, ctx.weight_norm), None, None


def _fold_gradients(weight, bias, alpha, adapted, inverse_norm, dscale, dshift, weight_norm):
    common = (dscale * weight).addcmul_(dshift, bias).mul_(inverse_norm)
    dalpha = common * weight
    dweight = (dscale * adapted).addcmul_(common, alpha)
    # What the norm of γ adds: the logarithm of 1 / ‖γ‖ has the gradient −γ / ‖γ‖² (l2).
    towards_norm = torch.dot(dalpha, alpha).mul_(inverse_norm)
    if weight_norm == 'l1':
        dweight.addcmul_(weight.sign(), towards_norm, value=-1 / len(weight))
    else:
        mean = len(weight) if weight_norm == 'rms' else 1
        dweight.addcmul_(weight, towards_norm.mul_(inverse_norm), value=-1 / mean)
    return dweight, dshift * adapted, dalpha, dshift


class _FoldGradients(torch.autograd.Function):
    """Refuses second derivatives; only taken where somebody might ask for them, as it costs time."""

    @staticmethod
    def forward(ctx, *arguments):
        return _fold_gradients(*arguments)

    @staticmethod
    def backward(ctx, *_):
        raise NotImplementedError('EAN has no second derivatives: its gradient can not be differentiated')
