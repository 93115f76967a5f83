"""The normalization-guided gate that every EAN computes, folded into one GroupNorm and one sigmoid.

Li, Li and Wen, 'EAN: An Efficient Attention Module Guided by Normalization for Deep Neural Networks', AAAI 2024,
Eq. 5 to 9 with the learned vectors folded into one scale and one shift a channel.
"""

import torch
from torch import Tensor


def norm_gate(x: Tensor, scale: Tensor, shift: Tensor, eps: float = 1e-5) -> Tensor:
    """Gate a feature map with a mask made from its own instance normalization.

    y = x · sigmoid(scale · x̂ + shift), x̂ = (x − mean) / sqrt(var + eps), with the mean and the biased variance of
    each sample's each channel over height and width.

    Statistics and mask are computed in float32 at least, whatever the type of ``x``.

    Args:
        x: Feature map of shape (N, C, H, W) and a floating-point type.
        scale: Factor on the normalized feature, shape (C,).
        shift: Summand to the normalized feature, shape (C,).
        eps: Added to the variance. Defaults to 1e-5.

    Returns:
        The gated feature map, of the shape, type and memory format of ``x``.

    Raises:
        ValueError: ``x`` isn't four-dimensional, or ``scale`` or ``shift`` isn't of shape (C,).
        TypeError: ``x`` isn't of a floating-point type.
    """
    if x.dim() != 4:
        raise ValueError(f'norm_gate: x must be of shape (N, C, H, W), got {tuple(x.shape)}')
    if not x.is_floating_point():
        raise TypeError(f'norm_gate: x must be of a floating-point type, got {x.dtype}')
    channels = x.shape[1]
    for name, vector in (('scale', scale), ('shift', shift)):
        if vector.shape != (channels,):
            raise ValueError(
                f'norm_gate: {name} must be of shape (C,) = ({channels},) as x has {channels} channels, '
                f'got {tuple(vector.shape)}'
            )
    dtype = torch.promote_types(x.dtype, torch.float32)
    # torch.group_norm, as functional.group_norm refuses a single 1×1 plane, for which the formula is well defined.
    mask = torch.group_norm(x.to(dtype), channels, scale.to(dtype), shift.to(dtype), eps).sigmoid_()
    return x * mask.to(x.dtype)
