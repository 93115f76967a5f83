"""norm_gate in plain PyTorch, for every device and type, and fast on a CPU.

Memory is what a CPU waits for here. So the feature map is taken in blocks that stay in cache, and each is finished, in
place where possible, before the next is read. The formulas are those of :mod:`.norm_gate`.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

# Elements of a block for each thread. A megabyte of float32: blocks half and twice as large were slower on a core with
# 2 MB of L2, smaller ones by their number.
BLOCK = 1 << 18


def forward(
    x: Tensor,
    scale: Tensor,
    shift: Tensor,
    eps: float,
    residual: Tensor | None,
    relu: bool,
    layout: torch.memory_format,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gate ``x``, which has the ``layout`` contiguous or channels_last, as the ``residual`` has.

    Returns:
        The gated map in that layout, and each plane's mean and 1 / sqrt(var + eps), shape (N, C).
    """
    gate = _forward_channels_last if layout is torch.channels_last else _forward_contiguous
    return gate(x, scale, shift, eps, residual, relu)


def backward(
    grad: Tensor,
    x: Tensor,
    scale: Tensor,
    shift: Tensor,
    mean: Tensor,
    rstd: Tensor,
    sign: Tensor | None,
    residual_grad: Tensor | None,
    layout: torch.memory_format,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of ``x``, ``scale`` and ``shift``.

    Args:
        grad: Gradient of the output.
        x: The map that was gated.
        scale: Factor on the normalized feature, shape (C,) or (C / G,).
        shift: Summand to the normalized feature, of the shape of ``scale``.
        mean: Each plane's mean, as :func:`forward` returned it.
        rstd: Each plane's 1 / sqrt(var + eps), as :func:`forward` returned it.
        sign: What a ReLU let through, where it is positive. None: there was no ReLU.
        residual_grad: Where to write the residual's gradient, or None.
        layout: The layout of all maps, contiguous or channels_last.
    """
    gradients = _backward_channels_last if layout is torch.channels_last else _backward_contiguous
    dx, dscale, dshift = gradients(grad, x, scale, shift, mean, rstd, sign, residual_grad)
    if dscale.numel() == len(scale):
        return dx, dscale.view(-1), dshift.view(-1)
    return dx, dscale.view(-1, len(scale)).sum(0), dshift.view(-1, len(scale)).sum(0)


def _forward_contiguous(x, scale, shift, eps, residual, relu):
    samples, channels, height, width = x.shape
    planes, pixels = samples * channels, height * width
    maps = (t if t is None else t.view(planes, pixels) for t in (x, residual))
    inputs = (*maps, _repeated(scale, planes), _repeated(shift, planes))
    size = _block_planes(x, planes, pixels)
    if planes <= size:
        y, mean, rstd = _gate(*inputs, eps, relu)
        y = y.to(x.dtype)
    else:
        y = x.new_empty(planes, pixels)
        mean, rstd = scale.new_empty(planes), scale.new_empty(planes)
        for *block, out, means, rstds in _blocks(size, *inputs, y, mean, rstd):
            for result, to in zip(_gate(*block, eps, relu, out), (out, means, rstds)):
                if result is not to:
                    to.copy_(result)
    # Not a view for autograd, which would refuse the `out += identity` of MMDetection's blocks.
    y = torch.ops.aten._unsafe_view(y, x.shape)
    return y, mean.view(samples, channels), rstd.view(samples, channels)


def _gate(x, residual, scale, shift, eps, relu, out=None):
    """Gate planes (P, H · W), each with its own scale and shift (P,), in ``out`` if that has the arithmetic's type."""
    planes, pixels = x.shape
    x = x.to(scale.dtype)
    mask, mean, rstd = torch.native_group_norm(x, scale, shift, 1, planes, pixels, planes, eps)
    y = torch.mul(x, mask.sigmoid_(), out=mask if out is None or out.dtype != x.dtype else out)
    if residual is not None:
        y.add_(residual)
    return y.relu_() if relu else y, mean.view(-1), rstd.view(-1)


def _backward_contiguous(grad, x, scale, shift, mean, rstd, sign, residual_grad):
    samples, channels, height, width = x.shape
    planes, pixels = samples * channels, height * width
    maps = (t if t is None else t.view(planes, pixels) for t in (x, grad, sign, residual_grad))
    inputs = (*maps, _repeated(scale, planes), _repeated(shift, planes), mean.view(-1), rstd.view(-1))
    size = _block_planes(x, planes, pixels)
    if planes <= size:
        dx, dscale, dshift = _gate_gradients(*inputs)
        dx = dx.to(x.dtype)
    else:
        dx = x.new_empty(planes, pixels)
        dscale, dshift = scale.new_empty(planes), scale.new_empty(planes)
        for *block, out, dscales, dshifts in _blocks(size, *inputs, dx, dscale, dshift):
            for result, to in zip(_gate_gradients(*block, out), (out, dscales, dshifts)):
                if result is not to:
                    to.copy_(result)
    return dx.view(x.shape), dscale, dshift


def _gate_gradients(x, grad, sign, residual_grad, scale, shift, mean, rstd, out=None):
    """Gradients of planes (P, H · W), in ``out`` if that has the arithmetic's type, and of their scales and shifts."""
    planes, pixels = x.shape
    x, grad = x.to(scale.dtype), _stop(grad, sign, residual_grad).to(scale.dtype)
    # A batch norm in evaluation mode, each plane a channel: (x - mean) / sqrt(rstd^-2) · scale + shift.
    mask = torch.batch_norm(x[None], scale, shift, mean, rstd.pow(-2), False, 0.0, 0.0, False)[0].sigmoid_()
    gated = torch.mul(grad, mask, out=None if out is None or out.dtype != x.dtype else out)
    # The gradient of the mask's argument, g · x · q · (1 - q), takes the mask's place.
    du = torch.addcmul(gated, gated, mask, value=-1, out=mask).mul_(x)
    through, dscale, dshift = torch.ops.aten.native_group_norm_backward(
        du, x, mean.view(1, -1), rstd.view(1, -1), scale, 1, planes, pixels, planes, [True, True, True]
    )
    return gated.add_(through), dscale, dshift


def _forward_channels_last(x, scale, shift, eps, residual, relu):
    samples, channels, height, width = x.shape
    pixels = height * width
    y = torch.empty_like(x, memory_format=torch.channels_last)
    mean, rstd = (scale.new_empty(samples, 1, channels) for _ in range(2))
    x_rows, y_rows, residual_rows = (_pixel_rows(t) for t in (x, y, residual))
    scale, shift = _repeated(scale, channels), _repeated(shift, channels)
    count, rows = _block_pixels(x, channels, pixels)
    scratch = scale.new_empty(min(count, samples), min(rows, pixels), channels)
    for xs, ys, residuals, means, rstds in _blocks(count, x_rows, y_rows, residual_rows, mean, rstd):
        xs = xs.to(scale.dtype)
        torch.mean(xs, 1, keepdim=True, out=means)
        rstds.zero_()
        for (block,) in _blocks(rows, xs, dim=1):
            centred = torch.sub(block, means, out=scratch[: len(block), : block.shape[1]])
            rstds += centred.square_().sum(1, keepdim=True)
        rstds.div_(pixels).add_(eps).rsqrt_()
        factor = scale * rstds
        offset = torch.addcmul(shift, factor, means, value=-1)
        for block, out, residual_block in _blocks(rows, xs, ys, residuals, dim=1):
            gated = out if out.dtype == scale.dtype else scratch[: len(block), : block.shape[1]]
            torch.mul(block, factor, out=gated).add_(offset).sigmoid_().mul_(block)
            if residual_block is not None:
                gated.add_(residual_block)
            if relu:
                gated.relu_()
            if gated is not out:
                out.copy_(gated)
    return y, mean.view(samples, channels), rstd.view(samples, channels)


def _backward_channels_last(grad, x, scale, shift, mean, rstd, sign, residual_grad):
    samples, channels, height, width = x.shape
    pixels = height * width
    # The mask's argument as one factor and one offset a plane: scale · x̂ + shift = factor · x + offset.
    factor = _repeated(scale, channels) * rstd
    offset = torch.addcmul(_repeated(shift, channels), factor, mean, value=-1)
    # dx is written in two passes, so its running value needs the computation's type.
    dx = torch.empty_like(x, dtype=scale.dtype, memory_format=torch.channels_last)
    dscale, dshift = scale.new_zeros(2, samples, 1, channels)
    count, rows = _block_pixels(x, channels, pixels)
    scratch = scale.new_empty(2, min(count, samples), min(rows, pixels), channels)
    maps = (_pixel_rows(t) for t in (x, grad, sign, residual_grad, dx))
    vectors = (t.unsqueeze(1) for t in (mean, rstd, factor, offset))
    for *block, means, rstds, factors, offsets, dscales, dshifts in _blocks(count, *maps, *vectors, dscale, dshift):
        for xs, grads, signs, residual_grads, dxs in _blocks(rows, *block, dim=1):
            mask, product = scratch[:, : len(xs), : xs.shape[1]]
            xs = xs.to(scale.dtype)
            grads = _stop(grads, signs, residual_grads).to(scale.dtype)
            torch.mul(xs, factors, out=mask).add_(offsets).sigmoid_()
            torch.mul(grads, mask, out=dxs)
            du = torch.addcmul(dxs, dxs, mask, value=-1, out=mask).mul_(xs)
            dshifts += du.sum(1, keepdim=True)
            dxs.add_(torch.mul(du, factors, out=product))
            dscales += du.mul_(xs).sum(1, keepdim=True)
        # Σ du · x̂ from Σ du · x, and what both sums contribute to dx, which is linear in x.
        dscales.addcmul_(dshifts, means, value=-1).mul_(rstds)
        slope = (factors * rstds * dscales).div_(-pixels)
        constant = (factors * dshifts).div_(-pixels).addcmul_(slope, means, value=-1)
        for xs, dxs in _blocks(rows, block[0], block[-1], dim=1):
            product = scratch[0, : len(xs), : xs.shape[1]]
            dxs.add_(torch.mul(xs, slope, out=product).add_(constant))
    return dx.to(x.dtype), dscale, dshift


def _stop(grad, sign, residual_grad):
    """The gradient in front of the ReLU, written to ``residual_grad`` where the residual wants it."""
    if sign is None:
        return grad
    if residual_grad is None:
        return torch.ops.aten.threshold_backward(grad, sign, 0)
    return torch.ops.aten.threshold_backward.grad_input(grad, sign, 0, grad_input=residual_grad)


def _pixel_rows(x: Tensor | None) -> Tensor | None:
    """A channels_last map (N, C, H, W) seen as (N, H · W, C)."""
    return x if x is None else x.permute(0, 2, 3, 1).view(x.shape[0], -1, x.shape[1])


def _repeated(vector: Tensor, count: int) -> Tensor:
    """A scale or shift that groups of channels share, for ``count`` channels or planes."""
    size = len(vector)
    # A third of what Tensor.repeat takes, which is more than the gate of a small map.
    return vector if size == count else vector.expand(count // size, size).contiguous().view(-1)


def _block_planes(x: Tensor, planes: int, pixels: int) -> int:
    """Planes of a block."""
    return max(1, BLOCK // pixels) * torch.get_num_threads() if x.device.type == 'cpu' else planes


def _block_pixels(x: Tensor, channels: int, pixels: int) -> tuple[int, int]:
    """Samples of a block, and pixels of each."""
    if x.device.type != 'cpu':
        return len(x), pixels
    block = BLOCK * torch.get_num_threads()
    samples = max(1, block // (channels * pixels))
    return samples, max(1, block // (channels * samples))


def _blocks(size: int, *tensors: Tensor | None, dim: int = 0) -> Iterator[tuple[Tensor | None, ...]]:
    """Cut tensors into blocks of ``size`` along an axis. None stays None."""
    length = tensors[0].shape[dim]
    if length <= size:
        yield tensors
        return
    for start in range(0, length, size):
        yield tuple(t if t is None else t.narrow(dim, start, min(size, length - start)) for t in tensors)
