"""The features of regions from the levels of a pyramid as one operation, which in ONNX is RoiAlign a level."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor


@torch.library.custom_op('ean_mmdet_deploy::roi_align_levels', mutates_args=())
def roi_align_levels(
    maps: Sequence[Tensor], rois: Tensor, strides: Sequence[float], finest: float, side: int, sampling: int
) -> Tensor:
    """RoIAlign, each region on the level that fits its size (Lin et al., 'Feature Pyramid Networks', Eq. 1).

    Args:
        maps: The levels, (N, C, H / stride, W / stride) each, the finest first.
        rois: (K, 5), the image's index and the corners x1, y1, x2, y2 in pixels.
        strides: A level's stride each.
        finest: Regions of a side below twice this go to the first level.
        side: Cells a side of a region's features.
        sampling: Samples a side of a cell; 0 takes as many as there are pixels.

    Returns:
        (K, C, side, side).
    """
    return _by_level(maps, rois, strides, finest, side, sampling)


def _by_level(
    maps: Sequence[Tensor], rois: Tensor, strides: Sequence[float], finest: float, side: int, sampling: int
) -> Tensor:
    from torchvision.ops import roi_align

    features = maps[0].new_zeros(len(rois), maps[0].shape[1], side, side)
    sizes = ((rois[:, 3] - rois[:, 1]) * (rois[:, 4] - rois[:, 2])).sqrt()
    levels = (sizes / finest + 1e-6).log2().floor().clamp(0, len(maps) - 1)
    for number, (level, stride) in enumerate(zip(maps, strides)):
        here = (levels == number).nonzero()[:, 0]
        features[here] = roi_align(level, rois[here], side, 1 / stride, sampling, aligned=True)
    return features


@roi_align_levels.register_fake
def _(
    maps: Sequence[Tensor], rois: Tensor, strides: Sequence[float], finest: float, side: int, sampling: int
) -> Tensor:
    return maps[0].new_empty(rois.shape[0], maps[0].shape[1], side, side)


def _setup(ctx: Any, inputs: tuple, output: Tensor) -> None:
    ctx.maps, ctx.rois, *ctx.settings = inputs


def _backward(ctx: Any, grad: Tensor) -> tuple:
    with torch.enable_grad():
        maps = [level.detach().requires_grad_() for level in ctx.maps]
        features = _by_level(maps, ctx.rois.detach(), *ctx.settings)
    return list(torch.autograd.grad(features, maps, grad)), None, None, None, None, None


roi_align_levels.register_autograd(_backward, setup_context=_setup)


def translations() -> dict[Callable, Callable]:
    """The operation in standard ONNX operators, as ``torch.onnx.export`` takes it."""
    from onnxscript import opset18 as op

    def onnx_roi_align_levels(maps, rois, strides, finest: float, side: int, sampling: int):
        def numbers(*values: float):
            return op.Constant(value_floats=list(values))

        def integers(*values: int):
            return op.Constant(value_ints=list(values))

        corners = op.Slice(rois, integers(1), integers(5), integers(1))
        images = op.Cast(op.Squeeze(op.Slice(rois, integers(0), integers(1), integers(1)), integers(1)), to=7)
        extent = op.Sub(
            op.Slice(corners, integers(2), integers(4), integers(1)),
            op.Slice(corners, integers(0), integers(2), integers(1)),
        )
        sizes = op.Sqrt(op.ReduceProd(extent, integers(1), keepdims=0))
        # floor(log2(x)) a level is whether x reaches a power of two
        scaled = op.Add(op.Div(sizes, numbers(finest)), numbers(1e-6))
        count = op.Slice(op.Shape(rois), integers(0), integers(1))
        channels = op.Slice(op.Shape(maps[0]), integers(1), integers(2))
        features = op.Expand(numbers(0.0), op.Concat(count, channels, integers(side, side), axis=0))
        for number, (level, stride) in enumerate(zip(maps, strides)):
            low = -math.inf if number == 0 else 2.0**number
            high = math.inf if number == len(maps) - 1 else 2.0 ** (number + 1)
            here = op.And(op.GreaterOrEqual(scaled, numbers(low)), op.Less(scaled, numbers(high)))
            index = op.Transpose(op.NonZero(here), perm=[1, 0])
            flat = op.Squeeze(index, integers(1))
            aligned = op.RoiAlign(
                level,
                op.Gather(corners, flat),
                op.Gather(images, flat),
                coordinate_transformation_mode='half_pixel',
                mode='avg',
                output_height=side,
                output_width=side,
                sampling_ratio=sampling,
                spatial_scale=1 / stride,
            )
            features = op.ScatterND(features, index, aligned)
        return features

    return {torch.ops.ean_mmdet_deploy.roi_align_levels.default: onnx_roi_align_levels}
