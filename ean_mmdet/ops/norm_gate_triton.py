"""The gate on GPUs, by the Triton kernels of :mod:`.norm_gate_triton_kernels`."""

from __future__ import annotations

import torch
from torch import Tensor

from .batch_norm import BatchNorm
from .fold import Vectors, fold, fold_gradients
from .norm_gate_triton_kernels import (
    INTERPRETED,
    backward_kernel,
    forward_kernel,
    gate_kernel,
    gradient_kernel,
    moments_kernel,
    sums_kernel,
)
from .norm_gate_triton_plan import Plan, cached_bytes, make_plan, programs

__all__ = ['INTERPRETED', 'IN_PLACE', 'MIN_CAPABILITY', 'backward', 'forward']

IN_PLACE = True
MIN_CAPABILITY = (7, 0)


def forward(
    z: Tensor,
    vectors: Vectors,
    eps: float,
    residual: Tensor | None,
    relu: bool,
    norm: BatchNorm,
    out: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor | None]:
    """As :func:`.norm_gate_eager.forward`, on maps that are contiguous or channels_last; ``out`` may be ``z``."""
    plan, tile = _plan(z, 1)
    samples, channels, height, width = z.shape
    planes, pixels = samples * channels, height * width
    scale, shift = fold(vectors, eps)
    y = torch.empty_like(z) if out is None else out
    batch = None
    with torch.cuda.device_of(z):
        if plan.splits == 1 and not norm.training:
            moments = scale.new_empty(2, samples, channels)
            forward_kernel[(plan.programs,)](
                z, residual, y, moments, scale, shift, *norm[:5], eps, plan.blocks, planes, channels, len(scale),
                pixels, relu, norm.present, plan.whole, plan.turns, *tile, num_warps=plan.warps,
            )  # fmt: skip
            return y, moments, batch
        grid = plan.blocks, plan.splits
        parts = scale.new_empty(2, planes, plan.splits)
        moments_kernel[grid](z, parts, planes, channels, pixels, plan.split_pixels, *tile, num_warps=plan.warps)
        moments = _joined(parts, plan, pixels).view(2, samples, channels)
        if norm.training:
            mean, var = moments
            batch = torch.stack([mean.mean(0), var.mean(0) + mean.var(0, correction=0)])
            norm = norm._replace(mean=batch[0], var=batch[1])
        gate_kernel[grid](
            z, residual, y, moments, scale, shift, *norm[:5], eps, planes, channels, len(scale), pixels,
            plan.split_pixels, relu, norm.present, *tile, num_warps=plan.warps,
        )  # fmt: skip
    return y, moments, batch


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
    """As :func:`.norm_gate_eager.backward`, on maps of one layout, contiguous or channels_last."""
    plan, tile = _plan(z, 2)
    samples, channels, height, width = z.shape
    planes, pixels = samples * channels, height * width
    scale, shift = fold(vectors, eps)
    dz = torch.empty_like(z)
    constants = scale, shift, *norm[:5], eps
    with torch.cuda.device_of(z):
        if plan.splits == 1 and not norm.training:
            sums = scale.new_empty(4, planes)
            backward_kernel[(plan.programs,)](
                grad, z, y, dz, dresidual, moments, sums, *constants, plan.blocks, planes, channels, len(scale), pixels,
                norm.present, plan.whole, plan.turns, *tile, num_warps=plan.warps,
            )  # fmt: skip
            dnorm = _of_norm(sums, samples, channels) if norm.present else None
        else:
            grid = plan.blocks, plan.splits
            parts = scale.new_empty(4, planes, plan.splits)
            sums_kernel[grid](
                grad, z, y, moments, parts, *constants, planes, channels, len(scale), pixels, plan.split_pixels,
                norm.present, *tile, num_warps=plan.warps,
            )  # fmt: skip
            sums = parts.sum(2)
            dnorm = _of_norm(sums, samples, channels) if norm.present else None
            gradient_kernel[grid](
                grad, z, y, dz, dresidual, moments, sums, dnorm, *constants, planes, samples, channels, len(scale),
                pixels, plan.split_pixels, norm.present, norm.training, *tile, num_warps=plan.warps,
            )  # fmt: skip
    dscale, dshift = sums[2:].view(2, -1, len(scale)).sum(1)
    return dz, fold_gradients(vectors, eps, dscale, dshift), dnorm


def _plan(z: Tensor, maps: int) -> tuple[Plan, tuple[bool, int, int, int]]:
    channels_last = not z.is_contiguous()
    plan = make_plan(z.shape, channels_last, maps, programs(z.device), cached_bytes(z.device) // z.element_size())
    return plan, (channels_last, plan.planes, plan.pixels, plan.align)


def _joined(parts: Tensor, plan: Plan, pixels: int) -> Tensor:
    """Means and variances of planes, shape (2, planes), from the means and squares of their parts."""
    means, squares = parts
    if plan.splits == 1:
        return torch.stack([means[:, 0], squares[:, 0] / pixels])
    count = pixels - plan.split_pixels * torch.arange(plan.splits, device=parts.device, dtype=parts.dtype)
    count.clamp_(max=plan.split_pixels)
    mean = (means * count).sum(1) / pixels
    squares = squares + count * (means - mean[:, None]).square()
    return torch.stack([mean, squares.sum(1) / pixels])


def _of_norm(sums: Tensor, samples: int, channels: int) -> Tensor:
    """Gradients of the norm's weight and bias, shape (2, C)."""
    return sums[:2].view(2, samples, channels).sum(1)
