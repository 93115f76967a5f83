"""norm_gate in plain PyTorch, for every device and type, and fast on a CPU.

Memory is what a CPU waits for here. So the feature map is taken in blocks that stay in cache, and each is finished, in
place where possible, before the next is read. The formulas are those of :mod:`.norm_gate`.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from .dtypes import in_type

# Elements of a block for each thread. A megabyte of float32: blocks half and twice as large were slower on a core with
# 2 MB of L2, smaller ones by their number.
BLOCK = 1 << 18
# Elements for each thread of the largest map that the forward pass takes whole. Its mask then lies in the output, where
# blocks need a buffer of their own; that outweighs the nearer cache until the map is out of the last one.
WHOLE = 1 << 20

_group_norm_backward = torch.ops.aten.native_group_norm_backward.default
_unsafe_view = torch.ops.aten._unsafe_view.default


def forward(
    x: Tensor,
    scale: Tensor,
    shift: Tensor,
    eps: float,
    residual: Tensor | None,
    relu: bool,
    layout: torch.memory_format,
    inplace: bool = False,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gate ``x``, which has the ``layout`` contiguous or channels_last, as the ``residual`` has.

    Returns:
        The gated map in that layout, in the memory of ``x`` if ``inplace``, and each plane's mean and
        1 / sqrt(var + eps), shape (N, C).
    """
    gate = _forward_channels_last if layout is torch.channels_last else _forward_contiguous
    return gate(x, scale, shift, eps, residual, relu, inplace)


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
    if dscale.shape == scale.shape:
        return dx, dscale, dshift
    return dx, dscale.view(-1, len(scale)).sum(0), dshift.view(-1, len(scale)).sum(0)


def _forward_contiguous(x, scale, shift, eps, residual, relu, inplace):
    (samples, channels), (planes, pixels) = x.shape[:2], _plane_shape(x)
    if x.device.type != 'cpu' or x.numel() <= WHOLE * torch.get_num_threads():
        y, mean, rstd = _gate(x, residual, planes, pixels, scale, shift, eps, relu, x if inplace else None)
        if y.dtype != x.dtype:
            y = x.copy_(y) if inplace else y.to(x.dtype)
        return y, mean.view(samples, channels), rstd.view(samples, channels)
    rows, residual_rows = (t if t is None else t.view(planes, pixels) for t in (x, residual))
    y = rows if inplace else torch.empty_like(rows)
    mean, rstd = scale.new_empty(planes), scale.new_empty(planes)
    size, scale, shift = _blocked_vectors(_block_planes(x, planes, pixels), planes, scale, shift)
    for block, scales, shifts in _blocks_of_planes(size, scale, shift, rows, residual_rows, y, mean, rstd):
        *maps, out, means, rstds = block
        for result, to in zip(_gate(*maps, *out.shape, scales, shifts, eps, relu, out), (out, means, rstds)):
            if result is not to:
                to.copy_(result.view(to.shape))
    # Not a view for autograd, which would refuse the `out += identity` of MMDetection's blocks.
    return _unsafe_view(y, x.shape), mean.view(samples, channels), rstd.view(samples, channels)


def _gate(x, residual, planes, pixels, scale, shift, eps, relu, out=None):
    """Gate planes, in ``out`` if that has the arithmetic's type. Scale and shift (k,) recur every k planes."""
    x, channels = in_type(x, scale.dtype), len(scale)
    # Every k planes are to the group norm a sample of k channels, each a group.
    mask, mean, rstd = torch.native_group_norm(x, scale, shift, planes // channels, channels, pixels, channels, eps)
    y = torch.mul(x, mask.sigmoid_(), out=mask if out is None or out.dtype != x.dtype else out)
    if residual is not None:
        y.add_(residual)
    return y.relu_() if relu else y, mean, rstd


def _backward_contiguous(grad, x, scale, shift, mean, rstd, sign, residual_grad):
    planes, pixels = _plane_shape(x)
    rows = [t if t is None else t.view(planes, pixels) for t in (x, grad, sign, residual_grad)]
    mean, rstd = mean.view(-1), rstd.view(-1)
    size = _block_planes(x, planes, pixels)
    if planes <= size:
        dx, dscale, dshift = _gate_gradients(*rows, mean, rstd, scale, shift)
        return in_type(dx, x.dtype).view_as(x), dscale, dshift
    dx = x.new_empty(planes, pixels)
    size, scale, shift = _blocked_vectors(size, planes, scale, shift)
    parts = []
    for block, scales, shifts in _blocks_of_planes(size, scale, shift, *rows, mean, rstd, dx):
        *maps, out = block
        dx_block, *vectors = _gate_gradients(*maps, scales, shifts, out)
        if dx_block is not out:
            out.copy_(dx_block)
        parts.append(vectors)
    join = torch.cat if len(scale) == planes else lambda vectors: torch.stack(vectors).sum(0)
    return dx.view_as(x), *(join(vectors) for vectors in zip(*parts))


def _gate_gradients(x, grad, sign, residual_grad, mean, rstd, scale, shift, out=None):
    """Gradients of planes (P, H · W), in ``out`` if that has the arithmetic's type, of scale and of shift (k,)."""
    (planes, pixels), channels = x.shape, len(scale)
    x, grad = (in_type(t, scale.dtype) for t in (x, _stop(grad, sign, residual_grad)))
    factor, offset = _mask_argument(scale, shift, mean.view(-1, channels), rstd.view(-1, channels))
    # Two thirds of the time of a batch norm in evaluation mode, which has the same formula.
    mask = torch.mul(x, factor.view(planes, 1)).add_(offset.view(planes, 1)).sigmoid_()
    gated = torch.mul(grad, mask, out=None if out is None or out.dtype != x.dtype else out)
    # The gradient of the mask's argument, g · x · q · (1 - q), takes the mask's place.
    du = torch.addcmul(gated, gated, mask, value=-1, out=mask).mul_(x)
    samples = planes // channels
    through, dscale, dshift = _group_norm_backward(
        du, x, mean, rstd, scale, samples, channels, pixels, channels, [True, True, True]
    )
    return gated.add_(through), dscale, dshift


def _forward_channels_last(x, scale, shift, eps, residual, relu, inplace):
    samples, channels, height, width = x.shape
    pixels = height * width
    y = x if inplace else torch.empty_like(x, memory_format=torch.channels_last)
    mean, rstd = (scale.new_empty(samples, 1, channels) for _ in range(2))
    x_rows, y_rows, residual_rows = (_pixel_rows(t) for t in (x, y, residual))
    scale, shift = _repeated(scale, channels), _repeated(shift, channels)
    count, rows = _block_pixels(x, channels, pixels)
    scratch = scale.new_empty(min(count, samples), min(rows, pixels), channels)
    for xs, ys, residuals, means, rstds in _blocks(count, x_rows, y_rows, residual_rows, mean, rstd):
        xs = in_type(xs, scale.dtype)
        torch.mean(xs, 1, keepdim=True, out=means)
        rstds.zero_()
        for (block,) in _blocks(rows, xs, dim=1):
            centred = torch.sub(block, means, out=scratch[: len(block), : block.shape[1]])
            rstds += centred.square_().sum(1, keepdim=True)
        rstds.div_(pixels).add_(eps).rsqrt_()
        factor, offset = _mask_argument(scale, shift, means, rstds)
        for block, out, residual_block in _blocks(rows, xs, ys, residuals, dim=1):
            gated = out if out.dtype == scale.dtype and not inplace else scratch[: len(block), : block.shape[1]]
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
    factor, offset = _mask_argument(_repeated(scale, channels), _repeated(shift, channels), mean, rstd)
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
            xs, grads = (in_type(t, scale.dtype) for t in (xs, _stop(grads, signs, residual_grads)))
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
    return in_type(dx, x.dtype), dscale, dshift


def _mask_argument(scale, shift, mean, rstd):
    """What the mask is the sigmoid of, scale · x̂ + shift, as one factor and one offset a plane: factor · x + offset."""
    factor = scale * rstd
    return factor, torch.addcmul(shift, factor, mean, value=-1)


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


def _plane_shape(x: Tensor) -> tuple[int, int]:
    samples, channels, height, width = x.shape
    return samples * channels, height * width


def _blocked_vectors(size: int, planes: int, scale: Tensor, shift: Tensor) -> tuple[int, Tensor, Tensor]:
    """The size of blocks of planes, and scale and shift for them: as they are, or cut as the planes are."""
    if size >= len(scale):
        return size - size % len(scale), scale, shift
    return size, _repeated(scale, planes), _repeated(shift, planes)


def _blocks_of_planes(size: int, scale: Tensor, shift: Tensor, *tensors: Tensor | None) -> Iterator[tuple]:
    """Blocks of tensors with a row a plane, each with its scale and shift."""
    planes = len(tensors[0])
    if len(scale) == planes:
        for *block, scales, shifts in _blocks(size, *tensors, scale, shift):
            yield block, scales, shifts
    else:
        for block in _blocks(size, *tensors):
            yield block, scale, shift


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
