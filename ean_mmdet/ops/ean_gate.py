"""EAN's gate from its four learned vectors, folded into the scale and the shift of :func:`.norm_gate`.

Li, Li and Wen, 'EAN: An Efficient Attention Module Guided by Normalization for Deep Neural Networks', AAAI 2024, Eq. 5
to 9. With c = 1 / ‖γ‖ the mask's argument is α · c · γ · (γ · x̂ + β) + δ = scale · x̂ + shift::

    scale = c · α · γ · γ        shift = c · α · γ · β + δ
"""

from __future__ import annotations

import torch
from torch import Tensor

from .dtypes import arithmetic_type, in_one_type, in_type
from .norm_gate import norm_gate, norm_gate_gradients, norm_gate_with_statistics

WEIGHT_NORMS = ('l2', 'rms', 'l1')


def ean_gate(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    alpha: Tensor,
    delta: Tensor,
    weight_norm: str = 'l2',
    eps: float = 1e-5,
    residual: Tensor | None = None,
    activation: str | None = None,
    inplace: bool = False,
) -> Tensor:
    """Gate a feature map as EAN does: y = x · sigmoid(α · ω · (γ · x̂ + β) + δ), ω = γ / ‖γ‖.

    One function for autograd too: with one for the fold and one for the gate, the gradient of a small feature map would
    take longer to call than to compute. There are no second derivatives.

    Args:
        x: Feature map of shape (N, C, H, W).
        weight: γ, the scale of the normalization, shape (C / G,) for the G groups of channels that share it.
        bias: β, the shift of the normalization, of the shape of ``weight``.
        alpha: α, the scale of the adaptation, of the shape of ``weight``.
        delta: δ, the shift of the adaptation, of the shape of ``weight``.
        weight_norm: ‖γ‖ is ``'l2'``: sqrt(Σγ² + eps), ``'rms'``: sqrt(mean γ² + eps), ``'l1'``: mean |γ| + eps.
            Defaults to ``'l2'``.
        eps: Added to the variance and to the norm. Defaults to 1e-5.
        residual: Summand to the gated feature map, of the shape of ``x``. Defaults to None.
        activation: ``'relu'`` or None, applied last. Defaults to None.
        inplace: Whether the result may be written over ``x``, see :func:`.norm_gate`. Defaults to False.

    Returns:
        The gated feature map, as :func:`.norm_gate` returns it.

    Raises:
        ValueError: ``weight_norm`` is unknown, the four vectors aren't of one shape (C / G,), or what
            :func:`.norm_gate` refuses.
        TypeError, RuntimeError: as :func:`.norm_gate` raises them.
    """
    if weight_norm not in WEIGHT_NORMS:
        raise ValueError(f'ean_gate: weight_norm must be one of {", ".join(WEIGHT_NORMS)}, got {weight_norm!r}')
    if weight.dim() != 1 or not weight.shape == bias.shape == alpha.shape == delta.shape:
        shapes = ', '.join(str(tuple(v.shape)) for v in (weight, bias, alpha, delta))
        raise ValueError(f'ean_gate: weight, bias, alpha and delta must be of one shape (C / G,), got {shapes}')
    x, residual = in_one_type(x, residual)
    dtype = arithmetic_type(x)
    vectors = [in_type(v, dtype) for v in (weight, bias, alpha, delta)]
    if not torch.is_grad_enabled():
        scale, shift, *_ = _fold(*vectors, weight_norm, eps)
        return norm_gate(x, scale, shift, eps, residual, activation, inplace)
    return _EANGate.apply(x, *vectors, weight_norm, eps, residual, activation)


class _EANGate(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weight, bias, alpha, delta, weight_norm, eps, residual, activation):
        scale, shift, adapted, inverse_norm = _fold(weight, bias, alpha, delta, weight_norm, eps)
        y, mean, rstd = norm_gate_with_statistics(x, scale, shift, eps, residual, activation)
        ctx.relu = activation == 'relu'
        kept = y if ctx.relu and residual is not None else None
        ctx.save_for_backward(weight, bias, alpha, adapted, inverse_norm, x, scale, shift, mean, rstd, kept)
        ctx.weight_norm = weight_norm
        return y

    @staticmethod
    def backward(ctx, grad):
        gradients = _gradients if not torch.is_grad_enabled() else _EANGateGradients.apply
        dx, *vectors, dresidual = gradients(
            grad, ctx.relu, ctx.needs_input_grad[7], ctx.weight_norm, *ctx.saved_tensors
        )
        return dx, *vectors, None, None, dresidual, None


def _gradients(
    grad, relu, wants_residual, weight_norm, weight, bias, alpha, adapted, inverse_norm, x, scale, shift, mean, rstd, y
):
    dx, dscale, dshift, dresidual = norm_gate_gradients(grad, x, scale, shift, mean, rstd, y, relu, wants_residual)
    vectors = _fold_gradients(weight, bias, alpha, adapted, inverse_norm, dscale, dshift, weight_norm)
    return dx, *vectors, dresidual


class _EANGateGradients(torch.autograd.Function):
    """Refuses second derivatives; only taken where somebody might ask for them, as it costs time."""

    @staticmethod
    def forward(ctx, *arguments):
        return _gradients(*arguments)

    @staticmethod
    def backward(ctx, *_):
        raise NotImplementedError('EAN has no second derivatives: its gradient can not be differentiated')


def _fold(weight, bias, alpha, delta, weight_norm, eps):
    if weight_norm == 'l2':
        inverse_norm = torch.dot(weight, weight).add_(eps).rsqrt_()
    elif weight_norm == 'rms':
        inverse_norm = torch.dot(weight, weight).div_(len(weight)).add_(eps).rsqrt_()
    else:
        inverse_norm = weight.abs().mean().add_(eps).reciprocal_()
    adapted = (alpha * weight).mul_(inverse_norm)
    return adapted * weight, torch.addcmul(delta, adapted, bias), adapted, inverse_norm


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
