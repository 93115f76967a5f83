"""Multi-scale deformable attention (Zhu et al. 2021), by the plain formula that mmcv keeps beside its operator.

mmcv asks for the operator on GPUs; on CPUs it takes the formula itself.
Shapes: value (N, keys, heads, C), locations (N, queries, heads, levels, points, 2) in [0, 1], weights (N, queries,
heads, levels, points).
"""

from torch import Tensor

from .gradients import gradients


def attend(value: Tensor, shapes: Tensor, locations: Tensor, weights: Tensor) -> Tensor:
    """Compute multi-scale deformable attention by mmcv's PyTorch function."""
    from mmcv.ops.multi_scale_deform_attn import multi_scale_deformable_attn_pytorch

    return multi_scale_deformable_attn_pytorch(value, shapes, locations, weights)


def ms_deform_attn_forward(
    value: Tensor, spatial_shapes: Tensor, level_start: Tensor, locations: Tensor, weights: Tensor, im2col_step: int
) -> Tensor:
    """The output, (N, queries, heads · C)."""
    return attend(value, spatial_shapes, locations, weights)


def ms_deform_attn_backward(
    value: Tensor,
    spatial_shapes: Tensor,
    level_start: Tensor,
    locations: Tensor,
    weights: Tensor,
    grad_output: Tensor,
    grad_value: Tensor,
    grad_locations: Tensor,
    grad_weights: Tensor,
    im2col_step: int,
) -> None:
    """Fill the three gradients."""
    found = gradients(
        lambda value, locations, weights: attend(value, spatial_shapes, locations, weights),
        (value, locations, weights),
        grad_output,
    )
    for target, source in zip((grad_value, grad_locations, grad_weights), found):
        target.copy_(source)
