"""The gate in plain PyTorch, for every device and type: what the compiled implementations are held to.

The formulas are those of ``README.md`` beside this file.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from .batch_norm import BatchNorm
from .dtypes import in_type
from .fold import Vectors, fold, fold_gradients

IN_PLACE = False


def forward(
    z: Tensor, vectors: Vectors, eps: float, residual: Tensor | None, relu: bool, norm: BatchNorm
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Gate ``z``. Differentiable by autograd and ``torch.func``, which is slower than :func:`backward`.

    Args:
        z: The feature map, shape (N, C, H, W).
        vectors: EAN's, in the type of the arithmetic as all vectors.
        eps: Added to each plane's variance and to the norm of γ.
        residual: Added to the gated map, of the shape and type of ``z``, or None.
        relu: Whether a ReLU comes last.
        norm: The batch norm in front.

    Returns:
        The result; the planes' means and variances, shape (2, N, C); and the batch's, shape (2, C), where ``norm`` is
        in training, else None.
    """
    values = in_type(z, vectors.alpha.dtype)
    moments, batch = moments_of(values, (2, 3)), None
    if norm.training:
        batch = moments_of(values, (0, 2, 3))
        norm = norm._replace(mean=batch[0], var=batch[1])
    plane = _plane(vectors, eps, moments, norm)
    y = plane.x(values) * plane.attention(values)
    if residual is not None:
        y = y + in_type(residual, y.dtype)
    return in_type(y.relu() if relu else y, z.dtype), moments, batch


def backward(
    grad: Tensor,
    z: Tensor,
    y: Tensor | None,
    moments: Tensor,
    vectors: Vectors,
    eps: float,
    dresidual: Tensor | None,
    norm: BatchNorm,
) -> tuple[Tensor, tuple[Tensor | None, ...], Tensor | None]:
    """Gradients of ``z``, of the four vectors and, if there is one, of the batch norm's weight and bias, shape (2, C).

    Args:
        grad: Gradient of the output.
        z: The map that was gated.
        y: The output, where a ReLU came last; else None.
        moments: The planes' means and variances, as :func:`forward` returned them.
        vectors: EAN's.
        eps: Added to each plane's variance and to the norm of γ.
        dresidual: Where to write the residual's gradient, if that is wanted after a ReLU.
        norm: The batch norm in front, with the statistics that it took.
    """
    if y is not None:
        grad = torch.ops.aten.threshold_backward(grad, y, 0)
        if dresidual is not None:
            dresidual.copy_(grad)
    samples, pixels = len(z), z.shape[2] * z.shape[3]
    z_type, z, grad = z.dtype, in_type(z, vectors.alpha.dtype), in_type(grad, vectors.alpha.dtype)
    plane = _plane(vectors, eps, moments, norm)
    attention, centered = plane.attention(z), z - plane.mean
    gated = grad * attention
    du = gated * (1 - attention) * plane.x(z)
    a1, a2, b1, b2 = (t.sum((2, 3), keepdim=True) for t in (gated, gated * centered, du, du * centered))
    inner, rstd2 = plane.scale * plane.rstd, plane.rstd.square()
    dz = plane.a * (gated + inner * (du - (b1 + plane.a.square() * rstd2 * b2 * centered) / pixels))
    dbias = a1.sum(0, keepdim=True)
    inverse = 1.0 if norm.var is None else (norm.var.view(1, -1, 1, 1) + norm.eps).rsqrt()
    dweight = (a2 + inner * rstd2 * eps * b2 + (plane.mean - plane.norm_mean) * a1).sum(0, keepdim=True) * inverse
    if norm.training:
        dz = dz - plane.a * (dbias + (z - plane.norm_mean) * inverse * dweight) / (samples * pixels)
    dscale, dshift = (t.reshape(-1, len(vectors.alpha)).sum(0) for t in (plane.a * plane.rstd * b2, b1))
    dnorm = torch.stack([dweight.view(-1), dbias.view(-1)]) if norm.present else None
    return in_type(dz, z_type), fold_gradients(vectors, eps, dscale, dshift), dnorm


def moments_of(values: Tensor, dims: tuple[int, ...]) -> Tensor:
    """Means and biased variances over some dimensions, one behind the other."""
    var, mean = torch.var_mean(values, dims, correction=0)
    return torch.stack([mean, var])


class _Plane(NamedTuple):
    """The numbers of a plane or channel, shaped to go with a map. x = a (z − norm_mean) + bias."""

    mean: Tensor
    a: Tensor
    norm_mean: Tensor | float
    bias: Tensor | float
    rstd: Tensor
    scale: Tensor
    shift: Tensor

    def x(self, z: Tensor) -> Tensor:
        return (z - self.norm_mean) * self.a + self.bias

    def attention(self, z: Tensor) -> Tensor:
        return torch.sigmoid(self.scale * self.a * self.rstd * (z - self.mean) + self.shift)


def _plane(vectors: Vectors, eps: float, moments: Tensor, norm: BatchNorm) -> _Plane:
    channels = moments.shape[2]
    mean, var = moments[..., None, None]
    scale, shift = (t.repeat(channels // max(len(t), 1)).view(1, -1, 1, 1) for t in fold(vectors, eps))
    a = torch.ones_like(scale)
    norm_mean: Tensor | float = 0.0
    bias: Tensor | float = 0.0
    if norm.var is not None and norm.mean is not None:
        a, norm_mean = (norm.var + norm.eps).rsqrt().view(1, -1, 1, 1), norm.mean.view(1, -1, 1, 1)
    if norm.weight is not None:
        a = a * norm.weight.view(1, -1, 1, 1)
    if norm.bias is not None:
        bias = norm.bias.view(1, -1, 1, 1)
    return _Plane(mean, a, norm_mean, bias, (a.square() * var + eps).rsqrt(), scale, shift)
