"""norm_gate's kernels for GPUs, in Triton: float32, float16 and bfloat16, contiguous and channels_last.

A program takes a block of planes (one sample's one channel each) as a tile of planes by pixels. Planes that fit one
tile are read once. Larger ones are read twice, for the sums and for the result; the second read goes backwards, through
what the first left in the L2 cache. Where there are too few blocks of planes to fill the GPU, programs share the pixels
of a block, and the two passes become two kernels. Every sum has a fixed order, without atomics: the same input gives
the same bits.

The formulas are those of :mod:`.norm_gate`; all arithmetic is in float32.
"""

from __future__ import annotations

import math
from functools import cache
from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

MIN_CAPABILITY = (7, 0)
# A program's tile, in elements. Chosen from what the compiler says of registers and what that leaves of programs on a
# multiprocessor: enough to keep its loads under way, few enough that a plane's second read still finds it in L2.
WHOLE_TILE = 8192  # at most, of planes that it holds whole
TILE = 4096  # where it packs several planes, and in channels_last
LARGE_TILE = 8192  # where it passes over one large plane
MIN_CHANNELS, CHANNELS = 16, 64  # in channels_last, side by side in memory: 128 bytes in half precision
MAX_SPLITS = 32  # programs that share a block of planes at most

# No specialization on sizes: what the compiler needs to know of them is in ALIGN.
SIZES = ['planes', 'channels', 'shared', 'pixels', 'split_pixels']


@triton.jit
def _planes(
    program, planes, channels, shared, pixels,
    CHANNELS_LAST: tl.constexpr, PLANES: tl.constexpr, ALIGN: tl.constexpr,
):  # fmt: skip
    """A block's planes: index, place of scale and shift, whether they exist, and where each starts.

    ALIGN divides the size of the fastest axis (channels in channels_last, else pixels). Sizes are written as multiples
    of it, so that the compiler reads ALIGN elements at once.
    """
    if CHANNELS_LAST:
        blocks = tl.cdiv(channels, PLANES)
        sample = program // blocks
        channel = program % blocks * PLANES + tl.arange(0, PLANES)
        valid = channel < channels // ALIGN * ALIGN
        plane = sample * channels + channel
        start = sample.to(tl.int64) * pixels * (channels // ALIGN) * ALIGN + channel
    else:
        plane = program * PLANES + tl.arange(0, PLANES)
        valid = plane < planes
        start = plane.to(tl.int64) * (pixels // ALIGN) * ALIGN
    return plane, plane % shared, valid, start


@triton.jit
def _tile(start, valid, first, end, channels, CHANNELS_LAST: tl.constexpr, PIXELS: tl.constexpr, ALIGN: tl.constexpr):
    """Offsets of a tile that begins at pixel ``first``, and which of its pixels lie before ``end``."""
    pixel = first + tl.arange(0, PIXELS)
    if CHANNELS_LAST:
        offset = pixel.to(tl.int64) * (channels // ALIGN) * ALIGN
        inside = pixel < end
    else:
        offset = pixel
        inside = pixel < end // ALIGN * ALIGN
    return start[:, None] + offset[None, :], valid[:, None] & inside[None, :]


@triton.jit
def _read(tensor, offsets, mask, AGAIN: tl.constexpr):
    """A tile in float32, 0 outside. AGAIN: it will be read again, so keep it in the cache."""
    if AGAIN:
        tile = tl.load(tensor + offsets, mask, 0.0, eviction_policy='evict_last')
    else:
        tile = tl.load(tensor + offsets, mask, 0.0, eviction_policy='evict_first')
    return tile.to(tl.float32)


@triton.jit
def _moments(
    x, start, valid, begin, end, channels,
    CHANNELS_LAST: tl.constexpr, PLANES: tl.constexpr, PIXELS: tl.constexpr, ALIGN: tl.constexpr,
):  # fmt: skip
    """Mean, and sum of squared differences from it, of the pixels ``begin`` to ``end`` of each plane.

    Sums are of differences from the first tile's mean, so a large mean doesn't cost the variance its digits.
    """
    offsets, mask = _tile(start, valid, begin, end, channels, CHANNELS_LAST, PIXELS, ALIGN)
    tile = _read(x, offsets, mask, True)
    origin = tl.sum(tile, 1) / tl.minimum(end - begin, PIXELS)
    total = tl.where(mask, tile - origin[:, None], 0.0)
    squares = total * total
    for first in range(begin + PIXELS, end, PIXELS):
        offsets, mask = _tile(start, valid, first, end, channels, CHANNELS_LAST, PIXELS, ALIGN)
        difference = tl.where(mask, _read(x, offsets, mask, True) - origin[:, None], 0.0)
        total += difference
        squares += difference * difference
    sums = tl.sum(total, 1)
    shift = sums / (end - begin)
    return origin + shift, tl.maximum(tl.sum(squares, 1) - sums * shift, 0.0)


@triton.jit
def _exponent(scale, shift, rstd):
    """Factor and offset, a plane, of exp2's argument in the sigmoid of scale · (x - mean) · rstd + shift."""
    return (-1.4426950408889634 * scale * rstd)[:, None], (-1.4426950408889634 * shift)[:, None]


@triton.jit
def _mask(centred, factor, offset):
    """The mask. In half precision it is arithmetic that takes the time, and a division three times this root's."""
    root = tl.rsqrt(1.0 + tl.exp2(centred * factor + offset))
    return root * root


@triton.jit
def _gate(tile, offsets, mask, mean, factor, offset, residual, y, RELU: tl.constexpr):
    """Write the gated tile."""
    gated = tile * _mask(tile - mean[:, None], factor, offset)
    if residual is not None:
        gated += _read(residual, offsets, mask, False)
    if RELU:
        gated = tl.maximum(gated, 0.0, tl.PropagateNan.ALL)
    tl.store(y + offsets, gated, mask)


@triton.jit
def _gate_all(
    x, start, valid, begin, end, channels, mean, factor, offset, residual, y, RELU: tl.constexpr,
    CHANNELS_LAST: tl.constexpr, PIXELS: tl.constexpr, ALIGN: tl.constexpr,
):  # fmt: skip
    """Gate the pixels ``begin`` to ``end`` of each plane, the last tile first."""
    tiles = tl.cdiv(end - begin, PIXELS)
    for index in range(0, tiles):
        first = begin + (tiles - 1 - index) * PIXELS
        offsets, mask = _tile(start, valid, first, end, channels, CHANNELS_LAST, PIXELS, ALIGN)
        _gate(_read(x, offsets, mask, False), offsets, mask, mean, factor, offset, residual, y, RELU)


@triton.jit(do_not_specialize=SIZES)
def _forward_kernel(
    x, residual, scale, shift, y, mean, rstd, planes, channels, shared, pixels, eps, RELU: tl.constexpr,
    WHOLE: tl.constexpr,
    CHANNELS_LAST: tl.constexpr, PLANES: tl.constexpr, PIXELS: tl.constexpr, ALIGN: tl.constexpr,
):  # fmt: skip
    """Statistics and gate of one block of planes."""
    program = tl.program_id(0)
    plane, channel, valid, start = _planes(program, planes, channels, shared, pixels, CHANNELS_LAST, PLANES, ALIGN)
    scales = tl.load(scale + channel, valid, 0.0)
    shifts = tl.load(shift + channel, valid, 0.0)
    if WHOLE:
        offsets, mask = _tile(start, valid, 0, pixels, channels, CHANNELS_LAST, PIXELS, ALIGN)
        tile = _read(x, offsets, mask, False)
        average = tl.sum(tile, 1) / pixels
        centred = tl.where(mask, tile - average[:, None], 0.0)
        inverse = 1.0 / tl.sqrt(tl.sum(centred * centred, 1) / pixels + eps)
        factor, offset = _exponent(scales, shifts, inverse)
        _gate(tile, offsets, mask, average, factor, offset, residual, y, RELU)
    else:
        average, squares = _moments(x, start, valid, 0, pixels, channels, CHANNELS_LAST, PLANES, PIXELS, ALIGN)
        inverse = 1.0 / tl.sqrt(squares / pixels + eps)
        factor, offset = _exponent(scales, shifts, inverse)
        _gate_all(
            x, start, valid, 0, pixels, channels, average, factor, offset, residual, y, RELU,
            CHANNELS_LAST, PIXELS, ALIGN,
        )  # fmt: skip
    tl.store(mean + plane, average, valid)
    tl.store(rstd + plane, inverse, valid)


@triton.jit(do_not_specialize=SIZES)
def _moments_kernel(
    x, moments, planes, channels, pixels, split_pixels,
    CHANNELS_LAST: tl.constexpr, PLANES: tl.constexpr, PIXELS: tl.constexpr, ALIGN: tl.constexpr,
):  # fmt: skip
    """Mean and squares of one part of the pixels of a block of planes, into ``moments`` (2, planes, splits)."""
    split = tl.program_id(1)
    splits = tl.num_programs(1)
    plane, _, valid, start = _planes(tl.program_id(0), planes, channels, channels, pixels, CHANNELS_LAST, PLANES, ALIGN)
    begin = split * split_pixels
    end = tl.minimum(begin + split_pixels, pixels)
    mean, squares = _moments(x, start, valid, begin, end, channels, CHANNELS_LAST, PLANES, PIXELS, ALIGN)
    moments += plane.to(tl.int64) * splits + split
    tl.store(moments, mean, valid)
    tl.store(moments + planes.to(tl.int64) * splits, squares, valid)


@triton.jit(do_not_specialize=SIZES)
def _gate_kernel(
    x, residual, scale, shift, y, mean, rstd, moments, planes, channels, shared, pixels, split_pixels, eps,
    RELU: tl.constexpr, SPLITS: tl.constexpr,
    CHANNELS_LAST: tl.constexpr, PLANES: tl.constexpr, PIXELS: tl.constexpr, ALIGN: tl.constexpr,
):  # fmt: skip
    """Gate one part of the pixels of a block of planes. Programs run in the reverse order of the moments' kernel."""
    splits = tl.num_programs(1)
    split = splits - 1 - tl.program_id(1)
    program = tl.num_programs(0) - 1 - tl.program_id(0)
    plane, channel, valid, start = _planes(program, planes, channels, shared, pixels, CHANNELS_LAST, PLANES, ALIGN)
    scales = tl.load(scale + channel, valid, 0.0)
    shifts = tl.load(shift + channel, valid, 0.0)

    parts = tl.arange(0, SPLITS)
    inside = valid[:, None] & (parts < splits)[None, :]
    moments += plane.to(tl.int64)[:, None] * splits + parts[None, :]
    means = tl.load(moments, inside, 0.0)
    squares = tl.load(moments + planes.to(tl.int64) * splits, inside, 0.0)
    count = tl.maximum(tl.minimum(pixels - parts * split_pixels, split_pixels), 0).to(tl.float32)[None, :]
    average = tl.sum(count * means, 1) / pixels
    squares += count * (means - average[:, None]) * (means - average[:, None])
    inverse = 1.0 / tl.sqrt(tl.sum(squares, 1) / pixels + eps)
    first_part = valid & (split == 0)
    tl.store(mean + plane, average, first_part)
    tl.store(rstd + plane, inverse, first_part)

    begin = split * split_pixels
    end = tl.minimum(begin + split_pixels, pixels)
    factor, offset = _exponent(scales, shifts, inverse)
    _gate_all(
        x, start, valid, begin, end, channels, average, factor, offset, residual, y, RELU,
        CHANNELS_LAST, PIXELS, ALIGN,
    )  # fmt: skip


@triton.jit
def _stopped(grad, sign, offsets, mask, AGAIN: tl.constexpr):
    """The gradient in front of the ReLU, which let through what has a positive sign."""
    tile = _read(grad, offsets, mask, AGAIN)
    if sign is not None:
        tile = tl.where(_read(sign, offsets, mask, AGAIN) <= 0, 0.0, tile)
    return tile


@triton.jit
def _mask_gradient(tile, grad, mean, factor, offset):
    """x - mean, g · q, and du: the gradient g · x · q · (1 - q) of the mask's argument."""
    centred = tile - mean[:, None]
    q = _mask(centred, factor, offset)
    gated = grad * q
    du = gated * tile
    return centred, gated, du - du * q


@triton.jit
def _sums(
    grad, x, sign, start, valid, begin, end, channels, mean, factor, offset,
    CHANNELS_LAST: tl.constexpr, PLANES: tl.constexpr, PIXELS: tl.constexpr, ALIGN: tl.constexpr,
):  # fmt: skip
    """Σ du · (x - mean) and Σ du over the pixels ``begin`` to ``end`` of each plane."""
    products = tl.zeros((PLANES, PIXELS), tl.float32)
    total = tl.zeros((PLANES, PIXELS), tl.float32)
    for first in range(begin, end, PIXELS):
        offsets, mask = _tile(start, valid, first, end, channels, CHANNELS_LAST, PIXELS, ALIGN)
        tile = _read(x, offsets, mask, True)
        centred, _, du = _mask_gradient(tile, _stopped(grad, sign, offsets, mask, True), mean, factor, offset)
        products += du * centred
        total += du
    return tl.sum(products, 1), tl.sum(total, 1)


@triton.jit
def _through(scale, rstd, dscale, dshift, pixels):
    """The planes' factors of du, of x - mean and of 1 in the gradient that comes through the mask."""
    factor = scale * rstd
    return factor[:, None], (-factor * rstd * dscale / pixels)[:, None], (-factor * dshift / pixels)[:, None]


@triton.jit
def _write_gradient(grad, centred, gated, du, offsets, mask, factor, slope, constant, dx, dresidual):
    """Write a tile of the gradients of x and of the residual."""
    tl.store(dx + offsets, gated + (factor * du + (slope * centred + constant)), mask)
    if dresidual is not None:
        tl.store(dresidual + offsets, grad, mask)


@triton.jit
def _gradients_all(
    grad, x, sign, start, valid, begin, end, channels, pixels, mean, rstd, scale, shift, dscale, dshift, dx, dresidual,
    CHANNELS_LAST: tl.constexpr, PIXELS: tl.constexpr, ALIGN: tl.constexpr,
):  # fmt: skip
    """Gradients of the pixels ``begin`` to ``end`` of each plane, the last tile first."""
    mask_factor, mask_offset = _exponent(scale, shift, rstd)
    factor, slope, constant = _through(scale, rstd, dscale, dshift, pixels)
    tiles = tl.cdiv(end - begin, PIXELS)
    for index in range(0, tiles):
        first = begin + (tiles - 1 - index) * PIXELS
        offsets, mask = _tile(start, valid, first, end, channels, CHANNELS_LAST, PIXELS, ALIGN)
        tile = _read(x, offsets, mask, False)
        stopped = _stopped(grad, sign, offsets, mask, False)
        centred, gated, du = _mask_gradient(tile, stopped, mean, mask_factor, mask_offset)
        _write_gradient(stopped, centred, gated, du, offsets, mask, factor, slope, constant, dx, dresidual)


@triton.jit
def _plane_vectors(plane, channel, valid, mean, rstd, scale, shift):
    """Each plane's mean, rstd, scale and shift."""
    return (
        tl.load(mean + plane, valid, 0.0), tl.load(rstd + plane, valid, 0.0),
        tl.load(scale + channel, valid, 0.0), tl.load(shift + channel, valid, 0.0),
    )  # fmt: skip


@triton.jit(do_not_specialize=SIZES)
def _backward_kernel(
    grad, x, sign, mean, rstd, scale, shift, dx, dresidual, dscale, dshift, planes, channels, shared,
    pixels, WHOLE: tl.constexpr,
    CHANNELS_LAST: tl.constexpr, PLANES: tl.constexpr, PIXELS: tl.constexpr, ALIGN: tl.constexpr,
):  # fmt: skip
    """Gradients of one block of planes; ``dscale`` and ``dshift`` a plane, not yet summed over the samples."""
    program = tl.program_id(0)
    plane, channel, valid, start = _planes(program, planes, channels, shared, pixels, CHANNELS_LAST, PLANES, ALIGN)
    means, rstds, scales, shifts = _plane_vectors(plane, channel, valid, mean, rstd, scale, shift)
    mask_factor, mask_offset = _exponent(scales, shifts, rstds)
    if WHOLE:
        offsets, mask = _tile(start, valid, 0, pixels, channels, CHANNELS_LAST, PIXELS, ALIGN)
        tile = _read(x, offsets, mask, False)
        stopped = _stopped(grad, sign, offsets, mask, False)
        centred, gated, du = _mask_gradient(tile, stopped, means, mask_factor, mask_offset)
        dscales = tl.sum(du * centred, 1) * rstds
        dshifts = tl.sum(du, 1)
        factor, slope, constant = _through(scales, rstds, dscales, dshifts, pixels)
        _write_gradient(stopped, centred, gated, du, offsets, mask, factor, slope, constant, dx, dresidual)
    else:
        products, dshifts = _sums(
            grad, x, sign, start, valid, 0, pixels, channels, means, mask_factor, mask_offset,
            CHANNELS_LAST, PLANES, PIXELS, ALIGN,
        )  # fmt: skip
        dscales = products * rstds
        _gradients_all(
            grad, x, sign, start, valid, 0, pixels, channels, pixels, means, rstds, scales, shifts, dscales, dshifts,
            dx, dresidual, CHANNELS_LAST, PIXELS, ALIGN,
        )  # fmt: skip
    tl.store(dscale + plane, dscales, valid)
    tl.store(dshift + plane, dshifts, valid)


@triton.jit(do_not_specialize=SIZES)
def _sums_kernel(
    grad, x, sign, mean, rstd, scale, shift, sums, planes, channels, shared, pixels, split_pixels,
    CHANNELS_LAST: tl.constexpr, PLANES: tl.constexpr, PIXELS: tl.constexpr, ALIGN: tl.constexpr,
):  # fmt: skip
    """Sums over one part of the pixels of a block of planes, into ``sums`` (2, planes, splits)."""
    split = tl.program_id(1)
    splits = tl.num_programs(1)
    plane, channel, valid, start = _planes(
        tl.program_id(0), planes, channels, shared, pixels, CHANNELS_LAST, PLANES, ALIGN
    )
    means, rstds, scales, shifts = _plane_vectors(plane, channel, valid, mean, rstd, scale, shift)
    mask_factor, mask_offset = _exponent(scales, shifts, rstds)
    begin = split * split_pixels
    end = tl.minimum(begin + split_pixels, pixels)
    products, total = _sums(
        grad, x, sign, start, valid, begin, end, channels, means, mask_factor, mask_offset,
        CHANNELS_LAST, PLANES, PIXELS, ALIGN,
    )  # fmt: skip
    sums += plane.to(tl.int64) * splits + split
    tl.store(sums, products * rstds, valid)
    tl.store(sums + planes.to(tl.int64) * splits, total, valid)


@triton.jit(do_not_specialize=SIZES)
def _gradient_kernel(
    grad, x, sign, mean, rstd, scale, shift, sums, dx, dresidual, dscale, dshift, planes, channels, shared,
    pixels, split_pixels, SPLITS: tl.constexpr,
    CHANNELS_LAST: tl.constexpr, PLANES: tl.constexpr, PIXELS: tl.constexpr, ALIGN: tl.constexpr,
):  # fmt: skip
    """Gradients of one part of the pixels. Programs run in the reverse order of the sums' kernel."""
    splits = tl.num_programs(1)
    split = splits - 1 - tl.program_id(1)
    program = tl.num_programs(0) - 1 - tl.program_id(0)
    plane, channel, valid, start = _planes(program, planes, channels, shared, pixels, CHANNELS_LAST, PLANES, ALIGN)
    means, rstds, scales, shifts = _plane_vectors(plane, channel, valid, mean, rstd, scale, shift)

    parts = tl.arange(0, SPLITS)
    inside = valid[:, None] & (parts < splits)[None, :]
    sums += plane.to(tl.int64)[:, None] * splits + parts[None, :]
    dscales = tl.sum(tl.load(sums, inside, 0.0), 1)
    dshifts = tl.sum(tl.load(sums + planes.to(tl.int64) * splits, inside, 0.0), 1)
    first_part = valid & (split == 0)
    tl.store(dscale + plane, dscales, first_part)
    tl.store(dshift + plane, dshifts, first_part)

    begin = split * split_pixels
    end = tl.minimum(begin + split_pixels, pixels)
    _gradients_all(
        grad, x, sign, start, valid, begin, end, channels, pixels, means, rstds, scales, shifts, dscales, dshifts,
        dx, dresidual, CHANNELS_LAST, PIXELS, ALIGN,
    )  # fmt: skip


# Whether TRITON_INTERPRET was set when the kernels were defined: they then run on the CPU, in NumPy.
INTERPRETED = not isinstance(_forward_kernel, triton.JITFunction)


class Plan(NamedTuple):
    """How the kernels cut a feature map up."""

    planes: int
    """Planes of a tile."""
    pixels: int
    """Pixels of a tile."""
    blocks: int
    """Blocks of planes."""
    splits: int
    """Programs that share a block."""
    split_pixels: int
    """Pixels of each of them."""
    whole: bool
    """Whether a tile holds its planes whole."""
    align: int
    """Power of two that divides the size of the fastest axis."""
    warps: int
    """Warps of a program."""


@cache
def make_plan(shape: torch.Size, channels_last: bool, maps: int, programs: int) -> Plan:
    """Cut a map of ``shape`` up for a GPU that ``programs`` programs keep busy; a tile is one of ``maps`` maps."""
    samples, channels, height, width = shape
    pixels = height * width
    all_pixels = triton.next_power_of_2(pixels)
    all_planes = triton.next_power_of_2(channels if channels_last else samples * channels)
    least = min(MIN_CHANNELS, all_planes) if channels_last else 1

    def blocks(planes: int) -> int:
        return samples * triton.cdiv(channels, planes) if channels_last else triton.cdiv(samples * channels, planes)

    whole = all_pixels * least <= WHOLE_TILE // maps
    splits = 1
    if whole:
        tile = all_pixels
        planes = min(max(TILE // maps // tile, least), all_planes)
        while planes > least and blocks(planes) < programs:
            planes //= 2
    else:
        planes = min(CHANNELS, all_planes) if channels_last else 1
        tile = TILE // maps // planes if channels_last else LARGE_TILE
        # Where half the device would stay idle, enough parts to fill it twice, of four tiles at least.
        if 2 * blocks(planes) <= programs:
            splits = max(1, min(2 * programs // blocks(planes), pixels // (4 * tile), MAX_SPLITS))
    split_pixels = triton.cdiv(triton.cdiv(pixels, tile), splits) * tile
    return Plan(
        planes=planes,
        pixels=tile,
        blocks=blocks(planes),
        splits=triton.cdiv(pixels, split_pixels),
        split_pixels=split_pixels,
        whole=whole,
        align=math.gcd(channels if channels_last else pixels, 16),
        warps=min(max(planes * tile * maps // 512, 1), 32),
    )


@cache
def _programs(device: torch.device) -> int:
    """Programs that keep a device busy: two on every multiprocessor."""
    return 2 * torch.cuda.get_device_properties(device).multi_processor_count if device.type == 'cuda' else 8


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
    """As :func:`.norm_gate_eager.forward`."""
    channels_last = layout is torch.channels_last
    plan = make_plan(x.shape, channels_last, 1, _programs(x.device))
    samples, channels, height, width = x.shape
    planes, pixels = samples * channels, height * width
    y = x if inplace else torch.empty_like(x, memory_format=layout)
    mean, rstd = scale.new_empty(samples, channels), scale.new_empty(samples, channels)
    tile = (channels_last, plan.planes, plan.pixels, plan.align)
    shared = len(scale)
    with torch.cuda.device_of(x):
        if plan.splits == 1:
            _forward_kernel[(plan.blocks,)](
                x, residual, scale, shift, y, mean, rstd, planes, channels, shared, pixels, eps, relu, plan.whole,
                *tile, num_warps=plan.warps,
            )  # fmt: skip
        else:
            grid = plan.blocks, plan.splits
            moments = scale.new_empty(2, planes, plan.splits)
            _moments_kernel[grid](x, moments, planes, channels, pixels, plan.split_pixels, *tile, num_warps=plan.warps)
            _gate_kernel[grid](
                x, residual, scale, shift, y, mean, rstd, moments, planes, channels, shared, pixels, plan.split_pixels,
                eps, relu, triton.next_power_of_2(plan.splits), *tile, num_warps=plan.warps,
            )  # fmt: skip
    return y, mean, rstd


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
    """As :func:`.norm_gate_eager.backward`."""
    channels_last = layout is torch.channels_last
    plan = make_plan(x.shape, channels_last, 2, _programs(x.device))
    samples, channels, height, width = x.shape
    planes, pixels = samples * channels, height * width
    dx = torch.empty_like(x, memory_format=layout)
    dscale, dshift = scale.new_empty(samples, channels), scale.new_empty(samples, channels)
    tile = (channels_last, plan.planes, plan.pixels, plan.align)
    shared = len(scale)
    with torch.cuda.device_of(x):
        if plan.splits == 1:
            _backward_kernel[(plan.blocks,)](
                grad, x, sign, mean, rstd, scale, shift, dx, residual_grad, dscale, dshift, planes, channels, shared,
                pixels, plan.whole, *tile, num_warps=plan.warps,
            )  # fmt: skip
        else:
            grid = plan.blocks, plan.splits
            sums = scale.new_empty(2, planes, plan.splits)
            _sums_kernel[grid](
                grad, x, sign, mean, rstd, scale, shift, sums, planes, channels, shared, pixels, plan.split_pixels,
                *tile, num_warps=plan.warps,
            )  # fmt: skip
            _gradient_kernel[grid](
                grad, x, sign, mean, rstd, scale, shift, sums, dx, residual_grad, dscale, dshift, planes, channels,
                shared, pixels, plan.split_pixels, triton.next_power_of_2(plan.splits), *tile, num_warps=plan.warps,
            )  # fmt: skip
    return dx, dscale.view(-1, shared).sum(0), dshift.view(-1, shared).sum(0)
