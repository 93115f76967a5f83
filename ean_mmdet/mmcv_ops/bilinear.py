"""Bilinear sampling of feature maps by RoIAlign's rule, which border, max and deformable pooling share.

A sample up to one pixel outside of the map takes the border's value; farther outside it is zero.
"""

import torch
from torch import Tensor


def corners(y: Tensor, x: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Indices and weights of the four pixels around each point.

    Args:
        y: Rows of the points, any shape.
        x: Columns of the points, the same shape.
        height: That of the feature map.
        width: That of the feature map.

    Returns:
        Indices into the flattened map and weights, both (4, *y.shape). The weights are differentiable in y and x.
    """
    inside = (y >= -1) & (y <= height) & (x >= -1) & (x <= width)
    y, x = y.clamp(0, height - 1), x.clamp(0, width - 1)
    top, left = y.detach().floor().long(), x.detach().floor().long()
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
    indices, weights = corners(y, x, *maps.shape[2:])
    flat = maps.flatten(2)
    return sum(
        flat.gather(2, index[:, None].expand(-1, flat.shape[1], -1)) * weight[:, None]
        for index, weight in zip(indices, weights)
    )
