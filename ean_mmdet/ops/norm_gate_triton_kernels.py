"""The gate's kernels in Triton: float32, float16 and bfloat16, contiguous and channels_last.

How they cut a feature map up is in :mod:`.norm_gate_triton_plan`, the formulas in :mod:`.operator`. All arithmetic is
in float32. Every sum has a fixed order, without atomics: the same input gives the same bits.
"""

from __future__ import annotations

import triton
import triton.language as tl

# No specialization on sizes: what the compiler needs to know of them is in ALIGN.
SIZES = ['blocks', 'planes', 'samples', 'channels', 'shared', 'pixels', 'split_pixels']


@triton.jit
def _planes(
    program, planes, channels, pixels,
    CHANNELS_LAST: tl.constexpr, PLANES: tl.constexpr, ALIGN: tl.constexpr,
):  # fmt: skip
    """A block's planes: index, channel, whether they exist, and where each starts.

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
        channel = plane % channels
        start = plane.to(tl.int64) * (pixels // ALIGN) * ALIGN
    return plane, channel, valid, start


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
    z, start, valid, begin, end, channels,
    CHANNELS_LAST: tl.constexpr, PLANES: tl.constexpr, PIXELS: tl.constexpr, ALIGN: tl.constexpr,
):  # fmt: skip
    """Mean, and sum of squared differences from it, of the pixels ``begin`` to ``end`` of each plane.

    Sums are of differences from the first tile's mean, so a large mean doesn't cost the variance its digits.
    """
    offsets, mask = _tile(start, valid, begin, end, channels, CHANNELS_LAST, PIXELS, ALIGN)
    tile = _read(z, offsets, mask, True)
    origin = tl.sum(tile, 1) / tl.minimum(end - begin, PIXELS)
    total = tl.where(mask, tile - origin[:, None], 0.0)
    squares = total * total
    for first in range(begin + PIXELS, end, PIXELS):
        offsets, mask = _tile(start, valid, first, end, channels, CHANNELS_LAST, PIXELS, ALIGN)
        difference = tl.where(mask, _read(z, offsets, mask, True) - origin[:, None], 0.0)
        total += difference
        squares += difference * difference
    sums = tl.sum(total, 1)
    shift = sums / (end - begin)
    return origin + shift, tl.maximum(tl.sum(squares, 1) - sums * shift, 0.0)


@triton.jit
def _channel_numbers(
    channel, valid, shared, scale, shift, norm_weight, norm_bias, norm_mean, norm_var, norm_eps, NORM: tl.constexpr
):  # fmt: skip
    """Of each plane's channel: scale, shift, and x = (z - mu) a + b with a = weight * inverse."""
    scales = tl.load(scale + channel % shared, valid, 0.0)
    shifts = tl.load(shift + channel % shared, valid, 0.0)
    inverse = tl.full(channel.shape, 1.0, tl.float32)
    mu = tl.full(channel.shape, 0.0, tl.float32)
    if NORM:
        inverse = 1.0 / tl.sqrt(tl.load(norm_var + channel, valid, 1.0) + norm_eps)
        mu = tl.load(norm_mean + channel, valid, 0.0)
    a, b = inverse, tl.full(channel.shape, 0.0, tl.float32)
    if norm_weight is not None:
        a *= tl.load(norm_weight + channel, valid, 0.0)
    if norm_bias is not None:
        b = tl.load(norm_bias + channel, valid, 0.0)
    return scales, shifts, inverse, mu, a, b


@triton.jit
def _attention(centered, slope, shift):
    """Sigmoid of slope · centered + shift, by a root: in half precision a division takes three times as long."""
    factor = (-1.4426950408889634 * slope)[:, None]
    root = tl.rsqrt(1.0 + tl.exp2(centered * factor + (-1.4426950408889634 * shift)[:, None]))
    return root * root


@triton.jit
def _gate(tile, offsets, mask, mean, slope, shift, mu, a, b, residual, y, RELU: tl.constexpr):
    """Write the gated tile."""
    gated = ((tile - mu[:, None]) * a[:, None] + b[:, None]) * _attention(tile - mean[:, None], slope, shift)
    if residual is not None:
        gated += _read(residual, offsets, mask, False)
    if RELU:
        gated = tl.maximum(gated, 0.0, tl.PropagateNan.ALL)
    tl.store(y + offsets, gated, mask)


@triton.jit
def _gate_all(
    z, start, valid, begin, end, channels, mean, slope, shift, mu, a, b, residual, y, RELU: tl.constexpr,
    CHANNELS_LAST: tl.constexpr, PIXELS: tl.constexpr, ALIGN: tl.constexpr,
):  # fmt: skip
    """Gate the pixels ``begin`` to ``end`` of each plane, the last tile first."""
    tiles = tl.cdiv(end - begin, PIXELS)
    for index in range(0, tiles):
        first = begin + (tiles - 1 - index) * PIXELS
        offsets, mask = _tile(start, valid, first, end, channels, CHANNELS_LAST, PIXELS, ALIGN)
        _gate(_read(z, offsets, mask, False), offsets, mask, mean, slope, shift, mu, a, b, residual, y, RELU)


@triton.jit
def _forward_block(
    program,
    z, residual, y, moments, scale, shift, norm_weight, norm_bias, norm_mean, norm_var, norm_eps, eps,
    planes, channels, shared, pixels, RELU: tl.constexpr, NORM: tl.constexpr, WHOLE: tl.constexpr,
    CHANNELS_LAST: tl.constexpr, PLANES: tl.constexpr, PIXELS: tl.constexpr, ALIGN: tl.constexpr,
):  # fmt: skip
    """Moments and gate of one block of planes."""
    plane, channel, valid, start = _planes(program, planes, channels, pixels, CHANNELS_LAST, PLANES, ALIGN)
    scales, shifts, _, mu, a, b = _channel_numbers(
        channel, valid, shared, scale, shift, norm_weight, norm_bias, norm_mean, norm_var, norm_eps, NORM
    )
    if WHOLE:
        offsets, mask = _tile(start, valid, 0, pixels, channels, CHANNELS_LAST, PIXELS, ALIGN)
        tile = _read(z, offsets, mask, False)
        mean = tl.sum(tile, 1) / pixels
        centered = tl.where(mask, tile - mean[:, None], 0.0)
        var = tl.sum(centered * centered, 1) / pixels
        slope = scales * a / tl.sqrt(a * a * var + eps)
        _gate(tile, offsets, mask, mean, slope, shifts, mu, a, b, residual, y, RELU)
    else:
        mean, squares = _moments(z, start, valid, 0, pixels, channels, CHANNELS_LAST, PLANES, PIXELS, ALIGN)
        var = squares / pixels
        slope = scales * a / tl.sqrt(a * a * var + eps)
        _gate_all(
            z, start, valid, 0, pixels, channels, mean, slope, shifts, mu, a, b, residual, y, RELU,
            CHANNELS_LAST, PIXELS, ALIGN,
        )  # fmt: skip
    tl.store(moments + plane, mean, valid)
    tl.store(moments + planes + plane, var, valid)


@triton.jit(do_not_specialize=SIZES)
def forward_kernel(
    z, residual, y, moments, scale, shift, norm_weight, norm_bias, norm_mean, norm_var, norm_eps, eps,
    blocks, planes, channels, shared, pixels, RELU: tl.constexpr, NORM: tl.constexpr, WHOLE: tl.constexpr,
    TURNS: tl.constexpr, CHANNELS_LAST: tl.constexpr, PLANES: tl.constexpr, PIXELS: tl.constexpr, ALIGN: tl.constexpr,
):  # fmt: skip
    """Moments and gate of every block of planes; programs take large ones in turns, see the plan."""
    if not TURNS:  # a loop takes registers
        _forward_block(
            tl.program_id(0),
            z, residual, y, moments, scale, shift, norm_weight, norm_bias, norm_mean, norm_var, norm_eps, eps,
            planes, channels, shared, pixels, RELU, NORM, WHOLE, CHANNELS_LAST, PLANES, PIXELS, ALIGN,
        )  # fmt: skip
    else:
        for program in range(tl.program_id(0), blocks, tl.num_programs(0)):
            _forward_block(
                program,
                z, residual, y, moments, scale, shift, norm_weight, norm_bias, norm_mean, norm_var, norm_eps, eps,
                planes, channels, shared, pixels, RELU, NORM, WHOLE, CHANNELS_LAST, PLANES, PIXELS, ALIGN,
            )  # fmt: skip


@triton.jit(do_not_specialize=SIZES)
def moments_kernel(
    z, parts, planes, channels, pixels, split_pixels,
    CHANNELS_LAST: tl.constexpr, PLANES: tl.constexpr, PIXELS: tl.constexpr, ALIGN: tl.constexpr,
):  # fmt: skip
    """Mean and squares of one part of the pixels of a block of planes, into ``parts`` (2, planes, splits)."""
    split, splits = tl.program_id(1), tl.num_programs(1)
    plane, _, valid, start = _planes(tl.program_id(0), planes, channels, pixels, CHANNELS_LAST, PLANES, ALIGN)
    begin = split * split_pixels
    end = tl.minimum(begin + split_pixels, pixels)
    mean, squares = _moments(z, start, valid, begin, end, channels, CHANNELS_LAST, PLANES, PIXELS, ALIGN)
    parts += plane.to(tl.int64) * splits + split
    tl.store(parts, mean, valid)
    tl.store(parts + planes.to(tl.int64) * splits, squares, valid)


@triton.jit(do_not_specialize=SIZES)
def gate_kernel(
    z, residual, y, moments, scale, shift, norm_weight, norm_bias, norm_mean, norm_var, norm_eps, eps,
    planes, channels, shared, pixels, split_pixels, RELU: tl.constexpr, NORM: tl.constexpr,
    CHANNELS_LAST: tl.constexpr, PLANES: tl.constexpr, PIXELS: tl.constexpr, ALIGN: tl.constexpr,
):  # fmt: skip
    """Gate one part of the pixels of a block of planes. Programs run in the reverse order of the moments' kernel."""
    split = tl.num_programs(1) - 1 - tl.program_id(1)
    program = tl.num_programs(0) - 1 - tl.program_id(0)
    plane, channel, valid, start = _planes(program, planes, channels, pixels, CHANNELS_LAST, PLANES, ALIGN)
    scales, shifts, _, mu, a, b = _channel_numbers(
        channel, valid, shared, scale, shift, norm_weight, norm_bias, norm_mean, norm_var, norm_eps, NORM
    )
    mean, var = tl.load(moments + plane, valid, 0.0), tl.load(moments + planes + plane, valid, 0.0)
    begin = split * split_pixels
    end = tl.minimum(begin + split_pixels, pixels)
    slope = scales * a / tl.sqrt(a * a * var + eps)
    _gate_all(
        z, start, valid, begin, end, channels, mean, slope, shifts, mu, a, b, residual, y, RELU,
        CHANNELS_LAST, PIXELS, ALIGN,
    )  # fmt: skip


@triton.jit
def _before_relu(grad, sign, offsets, mask, AGAIN: tl.constexpr):
    """The gradient in front of the ReLU, which let through what has a positive sign."""
    tile = _read(grad, offsets, mask, AGAIN)
    if sign is not None:
        tile = tl.where(_read(sign, offsets, mask, AGAIN) <= 0, 0.0, tile)
    return tile


@triton.jit
def _mask_gradient(tile, grad, mean, slope, shift, mu, a, b):
    """Return z - mean, g · q, and du: the gradient g · x · q · (1 - q) of the attention map's argument."""
    centered = tile - mean[:, None]
    q = _attention(centered, slope, shift)
    gated = grad * q
    return centered, gated, gated * (1.0 - q) * ((tile - mu[:, None]) * a[:, None] + b[:, None])


@triton.jit
def _sums(
    grad, z, sign, start, valid, begin, end, channels, mean, slope, shift, mu, a, b,
    CHANNELS_LAST: tl.constexpr, PLANES: tl.constexpr, PIXELS: tl.constexpr, ALIGN: tl.constexpr,
):  # fmt: skip
    """Σ gq, Σ gq (z - mean), Σ du and Σ du (z - mean) over the pixels ``begin`` to ``end`` of each plane."""
    a1 = tl.zeros((PLANES, PIXELS), tl.float32)
    a2 = tl.zeros((PLANES, PIXELS), tl.float32)
    b1 = tl.zeros((PLANES, PIXELS), tl.float32)
    b2 = tl.zeros((PLANES, PIXELS), tl.float32)
    for first in range(begin, end, PIXELS):
        offsets, mask = _tile(start, valid, first, end, channels, CHANNELS_LAST, PIXELS, ALIGN)
        tile = _read(z, offsets, mask, True)
        before_relu = _before_relu(grad, sign, offsets, mask, True)
        centered, gated, du = _mask_gradient(tile, before_relu, mean, slope, shift, mu, a, b)
        a1 += gated
        a2 += gated * centered
        b1 += du
        b2 += du * centered
    return tl.sum(a1, 1), tl.sum(a2, 1), tl.sum(b1, 1), tl.sum(b2, 1)


@triton.jit
def _contributions(a1, a2, b1, b2, mean, mu, inverse, a, scale, rstd, eps):
    """Return the share of a plane, or of a part of it, in the gradients of weight, bias, scale and shift."""
    dweight = inverse * (a2 + scale * rstd * rstd * rstd * eps * b2 + (mean - mu) * a1)
    return dweight, a1, a * rstd * b2, b1


@triton.jit
def _write_contributions(sums, index, size, valid, dweight, dbias, dscale, dshift):
    tl.store(sums + index, dweight, valid)
    tl.store(sums + size + index, dbias, valid)
    tl.store(sums + 2 * size + index, dscale, valid)
    tl.store(sums + 3 * size + index, dshift, valid)


@triton.jit
def _write_gradient(
    grad, centered, gated, du, offsets, mask, a, slope, du_mean, linear, constant, dz, dresidual
):  # fmt: skip
    """Write a tile of the gradients of z and of the residual."""
    direct = a[:, None] * gated + slope[:, None] * (du - du_mean[:, None])
    tl.store(dz + offsets, direct + (linear[:, None] * centered + constant[:, None]), mask)
    if dresidual is not None:
        tl.store(dresidual + offsets, grad, mask)


@triton.jit
def _gradients_all(
    grad, z, sign, dz, dresidual, start, valid, begin, end, channels, mean, slope, shift, mu, a, b, du_mean, linear,
    constant, CHANNELS_LAST: tl.constexpr, PIXELS: tl.constexpr, ALIGN: tl.constexpr,
):  # fmt: skip
    """Gradients of the pixels ``begin`` to ``end`` of each plane, the last tile first."""
    tiles = tl.cdiv(end - begin, PIXELS)
    for index in range(0, tiles):
        first = begin + (tiles - 1 - index) * PIXELS
        offsets, mask = _tile(start, valid, first, end, channels, CHANNELS_LAST, PIXELS, ALIGN)
        tile = _read(z, offsets, mask, False)
        before_relu = _before_relu(grad, sign, offsets, mask, False)
        centered, gated, du = _mask_gradient(tile, before_relu, mean, slope, shift, mu, a, b)
        _write_gradient(
            before_relu, centered, gated, du, offsets, mask, a, slope, du_mean, linear, constant, dz, dresidual
        )


@triton.jit
def _backward_block(
    program,
    grad, z, sign, dz, dresidual, moments, sums, scale, shift, norm_weight, norm_bias, norm_mean, norm_var, norm_eps,
    eps, planes, channels, shared, pixels, NORM: tl.constexpr, WHOLE: tl.constexpr,
    CHANNELS_LAST: tl.constexpr, PLANES: tl.constexpr, PIXELS: tl.constexpr, ALIGN: tl.constexpr,
):  # fmt: skip
    """Gradients of one block of planes; those of the parameters, a plane's share each, into ``sums`` (4, planes)."""
    plane, channel, valid, start = _planes(program, planes, channels, pixels, CHANNELS_LAST, PLANES, ALIGN)
    scales, shifts, inverse, mu, a, b = _channel_numbers(
        channel, valid, shared, scale, shift, norm_weight, norm_bias, norm_mean, norm_var, norm_eps, NORM
    )
    mean, var = tl.load(moments + plane, valid, 0.0), tl.load(moments + planes + plane, valid, 0.0)
    rstd = 1.0 / tl.sqrt(a * a * var + eps)
    slope = scales * a * rstd
    constant = tl.full(channel.shape, 0.0, tl.float32)
    if WHOLE:
        offsets, mask = _tile(start, valid, 0, pixels, channels, CHANNELS_LAST, PIXELS, ALIGN)
        tile = _read(z, offsets, mask, False)
        before_relu = _before_relu(grad, sign, offsets, mask, False)
        centered, gated, du = _mask_gradient(tile, before_relu, mean, slope, shifts, mu, a, b)
        a1, a2 = tl.sum(gated, 1), tl.sum(gated * centered, 1)
        b1, b2 = tl.sum(du, 1), tl.sum(du * centered, 1)
        linear = -slope * (a * rstd) * (a * rstd * b2) / pixels
        _write_gradient(
            before_relu, centered, gated, du, offsets, mask, a, slope, b1 / pixels, linear, constant, dz, dresidual
        )
    else:
        a1, a2, b1, b2 = _sums(
            grad, z, sign, start, valid, 0, pixels, channels, mean, slope, shifts, mu, a, b,
            CHANNELS_LAST, PLANES, PIXELS, ALIGN,
        )  # fmt: skip
        linear = -slope * (a * rstd) * (a * rstd * b2) / pixels
        _gradients_all(
            grad, z, sign, dz, dresidual, start, valid, 0, pixels, channels, mean, slope, shifts, mu, a, b,
            b1 / pixels, linear, constant, CHANNELS_LAST, PIXELS, ALIGN,
        )  # fmt: skip
    dweight, dbias, dscale, dshift = _contributions(a1, a2, b1, b2, mean, mu, inverse, a, scales, rstd, eps)
    _write_contributions(sums, plane, planes, valid, dweight, dbias, dscale, dshift)


@triton.jit(do_not_specialize=SIZES)
def backward_kernel(
    grad, z, sign, dz, dresidual, moments, sums, scale, shift, norm_weight, norm_bias, norm_mean, norm_var, norm_eps,
    eps, blocks, planes, channels, shared, pixels, NORM: tl.constexpr, WHOLE: tl.constexpr,
    TURNS: tl.constexpr, CHANNELS_LAST: tl.constexpr, PLANES: tl.constexpr, PIXELS: tl.constexpr, ALIGN: tl.constexpr,
):  # fmt: skip
    """Gradients of every block of planes; programs take large ones in turns, see the plan."""
    if not TURNS:  # a loop takes registers
        _backward_block(
            tl.program_id(0),
            grad, z, sign, dz, dresidual, moments, sums, scale, shift, norm_weight, norm_bias, norm_mean, norm_var,
            norm_eps, eps, planes, channels, shared, pixels, NORM, WHOLE, CHANNELS_LAST, PLANES, PIXELS, ALIGN,
        )  # fmt: skip
    else:
        for program in range(tl.program_id(0), blocks, tl.num_programs(0)):
            _backward_block(
                program,
                grad, z, sign, dz, dresidual, moments, sums, scale, shift, norm_weight, norm_bias, norm_mean, norm_var,
                norm_eps, eps, planes, channels, shared, pixels, NORM, WHOLE, CHANNELS_LAST, PLANES, PIXELS, ALIGN,
            )  # fmt: skip


@triton.jit(do_not_specialize=SIZES)
def sums_kernel(
    grad, z, sign, moments, parts, scale, shift, norm_weight, norm_bias, norm_mean, norm_var, norm_eps, eps,
    planes, channels, shared, pixels, split_pixels, NORM: tl.constexpr,
    CHANNELS_LAST: tl.constexpr, PLANES: tl.constexpr, PIXELS: tl.constexpr, ALIGN: tl.constexpr,
):  # fmt: skip
    """Write the share of one part of the pixels in the parameters' gradients into ``parts`` (4, planes, splits)."""
    split, splits = tl.program_id(1), tl.num_programs(1)
    plane, channel, valid, start = _planes(tl.program_id(0), planes, channels, pixels, CHANNELS_LAST, PLANES, ALIGN)
    scales, shifts, inverse, mu, a, b = _channel_numbers(
        channel, valid, shared, scale, shift, norm_weight, norm_bias, norm_mean, norm_var, norm_eps, NORM
    )
    mean, var = tl.load(moments + plane, valid, 0.0), tl.load(moments + planes + plane, valid, 0.0)
    rstd = 1.0 / tl.sqrt(a * a * var + eps)
    begin = split * split_pixels
    end = tl.minimum(begin + split_pixels, pixels)
    a1, a2, b1, b2 = _sums(
        grad, z, sign, start, valid, begin, end, channels, mean, scales * a * rstd, shifts, mu, a, b,
        CHANNELS_LAST, PLANES, PIXELS, ALIGN,
    )  # fmt: skip
    dweight, dbias, dscale, dshift = _contributions(a1, a2, b1, b2, mean, mu, inverse, a, scales, rstd, eps)
    index, size = plane.to(tl.int64) * splits + split, planes.to(tl.int64) * splits
    _write_contributions(parts, index, size, valid, dweight, dbias, dscale, dshift)


@triton.jit(do_not_specialize=SIZES)
def gradient_kernel(
    grad, z, sign, dz, dresidual, moments, sums, dnorm, scale, shift, norm_weight, norm_bias, norm_mean, norm_var,
    norm_eps, eps, planes, samples, channels, shared, pixels, split_pixels, NORM: tl.constexpr,
    TRAINING: tl.constexpr,
    CHANNELS_LAST: tl.constexpr, PLANES: tl.constexpr, PIXELS: tl.constexpr, ALIGN: tl.constexpr,
):  # fmt: skip
    """Write the gradients of one part of the pixels.

    They come from the planes' ``sums`` (4, planes) and, where the statistics are the batch's, the gradients of the
    norm's weight and bias, ``dnorm`` (2, channels). Programs run in the reverse order of the sums' kernel.
    """
    split = tl.num_programs(1) - 1 - tl.program_id(1)
    program = tl.num_programs(0) - 1 - tl.program_id(0)
    plane, channel, valid, start = _planes(program, planes, channels, pixels, CHANNELS_LAST, PLANES, ALIGN)
    scales, shifts, inverse, mu, a, b = _channel_numbers(
        channel, valid, shared, scale, shift, norm_weight, norm_bias, norm_mean, norm_var, norm_eps, NORM
    )
    mean, var = tl.load(moments + plane, valid, 0.0), tl.load(moments + planes + plane, valid, 0.0)
    rstd = 1.0 / tl.sqrt(a * a * var + eps)
    slope = scales * a * rstd
    linear = -slope * a * rstd * tl.load(sums + 2 * planes + plane, valid, 0.0) / pixels
    du_mean = tl.load(sums + 3 * planes + plane, valid, 0.0) / pixels
    constant = tl.full(channel.shape, 0.0, tl.float32)
    if TRAINING:
        count = pixels.to(tl.float32) * samples
        of_weight = a * inverse * tl.load(dnorm + channel, valid, 0.0) / count
        constant = -a * tl.load(dnorm + channels + channel, valid, 0.0) / count - of_weight * (mean - mu)
        linear -= of_weight
    begin = split * split_pixels
    end = tl.minimum(begin + split_pixels, pixels)
    _gradients_all(
        grad, z, sign, dz, dresidual, start, valid, begin, end, channels, mean, slope, shifts, mu, a, b,
        du_mean, linear, constant, CHANNELS_LAST, PIXELS, ALIGN,
    )  # fmt: skip


# Whether TRITON_INTERPRET was set when the kernels were defined: they then run on the CPU, in NumPy.
INTERPRETED = not isinstance(forward_kernel, triton.JITFunction)
