"""Bilinear sampling of feature maps by RoIAlign's rule, which border, max and deformable pooling share.

A sample up to one pixel outside of the map takes the border's value; farther outside it is zero.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def corners(y: Tensor, x: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Indices and weights of the four pixels around each point.

    Args:
        y: Rows of the points, any shape.
        x: Columns of the points, the same shape.
        height: That of the feature map.
        width: That of the feature map.

    Returns:
        Indices into the flattened map and weights, both (4, *y.shape).
    """
    inside = (y >= -1) & (y <= height) & (x >= -1) & (x <= width)
    y, x = y.where(inside, 0).clamp(0, height - 1), x.where(inside, 0).clamp(0, width - 1)
    top, left = y.floor().long(), x.floor().long()
    bottom, right = (top + 1).clamp(max=height - 1), (left + 1).clamp(max=width - 1)
    down, along = y - top, x - left
    indices = torch.stack([row * width + column for row in (top, bottom) for column in (left, right)])
    weights = torch.stack([row * column for row in (1 - down, down) for column in (1 - along, along)])
    return indices, weights * inside


def sample(maps: Tensor, y: Tensor, x: Tensor) -> Tensor:
    """Sample feature maps, differentiable in all three.

    Args:
        maps: (B, C, H, W).
        y: Rows of the points of each map, (B, P).
        x: Columns, (B, P).

    Returns:
        (B, C, P).
    """
    height, width = maps.shape[2:]
    inside = (y >= -1) & (y <= height) & (x >= -1) & (x <= width)
    dtype = torch.promote_types(maps.dtype, torch.float32)  # places in float16 are too coarse
    y, x = y.to(dtype), x.to(dtype)
    grid = torch.stack([x * 2 / max(width - 1, 1) - 1, y * 2 / max(height - 1, 1) - 1], dim=-1)
    found = F.grid_sample(maps.to(dtype), grid[:, None], padding_mode='border', align_corners=True)  # (B, C, 1, P)
    return (found[:, :, 0] * inside[:, None]).to(maps.dtype)
