"""EAN's gate from its four learned vectors.

Li, Li and Wen, 'EAN: An Efficient Attention Module Guided by Normalization for Deep Neural Networks', AAAI 2024, Eq. 5
to 9.
"""

from __future__ import annotations

from torch import Tensor

from .fold import Vectors
from .norm_gate import NO_NORM, check
from .operator import gate, quick


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

    Args:
        x: Feature map of shape (N, C, H, W).
        weight: γ, the scale of the normalization, shape (C / G,) for the G groups of channels that share it.
        bias: β, the shift of the normalization, of the shape of ``weight``.
        alpha: α, the scale of the adaptation, of the shape of ``weight``.
        delta: δ, the shift of the adaptation, of the shape of ``weight``.
        weight_norm: ‖γ‖ is ``'l2'``: sqrt(Σγ² + eps), ``'rms'``: sqrt(mean γ² + eps), ``'l1'``: ``mean |γ| + eps``.
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
        TypeError, RuntimeError: As :func:`.norm_gate` raises them.
    """
    y = quick(x, weight, bias, alpha, delta, weight_norm, eps, *NO_NORM, 0.0, residual, activation, inplace)
    if y is not None:
        return y
    vectors = Vectors(weight, bias, alpha, delta, weight_norm)
    check('ean_gate', x, vectors, residual, activation)
    return gate(x, vectors, eps, residual, activation == 'relu', NO_NORM, inplace)[0]
