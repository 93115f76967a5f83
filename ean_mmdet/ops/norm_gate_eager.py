"""norm_gate in plain PyTorch, for every device and type, and fast on a CPU.

Memory is what a CPU waits for here. So the feature map is taken in blocks that stay in cache, and each is finished, in
place where possible, before the next is read. The formulas are those of :mod:`.norm_gate`.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

# Elements of a block for each thread: half a megabyte of float32, so that a block, its mask and its gradient share L2.
BLOCK = 1 << 17


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
        scale: Factor on the normalized feature, shape (C,).
        shift: Summand to the normalized feature, shape (C,).
        mean: Each plane's mean, as :func:`forward` returned it.
        rstd: Each plane's 1 / sqrt(var + eps), as :func:`forward` returned it.
        sign: What a ReLU let through, where it is positive. None: there was no ReLU.
        residual_grad: Where to write the residual's gradient, or None.
        layout: The layout of all maps, contiguous or channels_last.
    """
    # The mask's argument as one factor and one offset a plane: scale · x̂ + shift = factor · x + offset.
    factor = scale * rstd
    offset = torch.addcmul(shift, factor, mean, value=-1)
    gradients = _backward_channels_last if layout is torch.channels_last else _backward_contiguous
    dx, dscale, dshift = gradients(grad, x, scale, mean, rstd, factor, offset, sign, residual_grad)
    return dx, dscale.sum(0), dshift.sum(0)


def _forward_contiguous(x, scale, shift, eps, residual, relu):
    samples, channels, height, width = x.shape
    planes, pixels = samples * channels, height * width
    rows = _block_rows(x, planes, pixels)
    x_rows, residual_rows = (t if t is None else t.view(planes, pixels) for t in (x, residual))
    if samples > 1:
        scale, shift = scale.repeat(samples), shift.repeat(samples)
    if planes <= rows:
        y, mean, rstd = _gate(x_rows, scale, shift, residual_rows, eps, relu)
        y = y.to(x.dtype)
    else:
        y = torch.empty_like(x_rows)
        mean, rstd = scale.new_empty(planes), scale.new_empty(planes)
        for *block, y_block, means, rstds in _blocks(rows, x_rows, scale, shift, residual_rows, y, mean, rstd):
            out, block_mean, block_rstd = _gate(*block, eps, relu, y_block)
            if out is not y_block:
                y_block.copy_(out)
            means.copy_(block_mean)
            rstds.copy_(block_rstd)
    # Not a view for autograd, which would refuse the `out += identity` of MMDetection's blocks.
    y = torch.ops.aten._unsafe_view(y, x.shape)
    return y, mean.view(samples, channels), rstd.view(samples, channels)


def _gate(x, scale, shift, residual, eps, relu, out=None):
    """Gate planes (P, H · W), each with its own scale and shift (P,), in ``out`` if its type is the computation's."""
    planes, pixels = x.shape
    x = x.to(scale.dtype)
    mask, mean, rstd = torch.native_group_norm(x, scale, shift, 1, planes, pixels, planes, eps)
    if out is None or out.dtype != mask.dtype:
        out = mask
    torch.mul(x, mask.sigmoid_(), out=out)
    if residual is not None:
        out.add_(residual)
    return out.relu_() if relu else out, mean.view(-1), rstd.view(-1)


def _backward_contiguous(grad, x, scale, mean, rstd, factor, offset, sign, residual_grad):
    samples, channels, height, width = x.shape
    planes, pixels = samples * channels, height * width
    rows = _block_rows(x, planes, pixels)
    dx = torch.empty_like(x, memory_format=torch.contiguous_format)
    scratch = scale.new_empty(min(rows, planes), pixels)
    maps = (t if t is None else t.view(planes, pixels) for t in (x, grad, sign, residual_grad, dx))
    vectors = (t.reshape(planes) for t in (mean, rstd, factor, offset, scale.repeat(samples)))
    dscale, dshift = [], []
    for xs, grads, signs, residual_grads, dxs, means, rstds, factors, offsets, scales in _blocks(rows, *maps, *vectors):
        count = len(xs)
        xs = xs.to(scale.dtype)
        grads = _stop(grads, signs, residual_grads).to(scale.dtype)
        mask = torch.mul(xs, factors.view(-1, 1), out=scratch[:count]).add_(offsets.view(-1, 1)).sigmoid_()
        gated = torch.mul(grads, mask, out=dxs) if dxs.dtype == mask.dtype else grads * mask
        # The gradient of the mask's argument, g · x · q · (1 - q), takes the mask's place.
        du = torch.addcmul(gated, gated, mask, value=-1, out=mask).mul_(xs)
        through, *sums = torch.ops.aten.native_group_norm_backward(
            du, xs, means.view(1, -1), rstds.view(1, -1), scales, 1, count, pixels, count, [True, True, True]
        )
        dxs.copy_(through.add_(gated)) if gated is not dxs else dxs.add_(through)
        dscale.append(sums[0])
        dshift.append(sums[1])
    return dx, torch.cat(dscale).view(samples, channels), torch.cat(dshift).view(samples, channels)


def _forward_channels_last(x, scale, shift, eps, residual, relu):
    samples, channels, height, width = x.shape
    pixels = height * width
    y = torch.empty_like(x, memory_format=torch.channels_last)
    mean, rstd = (scale.new_empty(samples, 1, channels) for _ in range(2))
    x_rows, y_rows, residual_rows = (_pixel_rows(t) for t in (x, y, residual))
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


def _backward_channels_last(grad, x, scale, mean, rstd, factor, offset, sign, residual_grad):
    samples, channels, height, width = x.shape
    pixels = height * width
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
    return dx.to(x.dtype), dscale.squeeze(1), dshift.squeeze(1)


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


def _block_rows(x: Tensor, planes: int, pixels: int) -> int:
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
