"""BorderAlign (Qiu et al. 2020): the largest value on each side of a box.

Shapes: input (N, 4 · C, H, W), a quarter of the channels for each of top, left, bottom and right; boxes (N, P, 4) as
x1, y1, x2, y2 on the map; output (N, C, P, 4).
"""

import torch
from torch import Tensor

from .bilinear import corners, sample


def points(boxes: Tensor, pool_size: int, step: Tensor) -> tuple[Tensor, Tensor]:
    """Rows and columns of the points ``step`` (broadcast to N, P, 4) of pool_size on all sides, (N, P, 4) each.

    Top and left start in the corner x1, y1, bottom and right in x2, y2.
    """
    x1, y1, x2, y2 = boxes.unbind(2)
    width, height, none = (x2 - x1) / pool_size, (y2 - y1) / pool_size, torch.zeros_like(x1)
    y = torch.stack([y1, y1, y2, y2], dim=2) + step * torch.stack([none, height, none, -height], dim=2)
    x = torch.stack([x1, x1, x2, x2], dim=2) + step * torch.stack([width, none, -width, none], dim=2)
    return y, x


def sides(tensor: Tensor) -> Tensor:
    """(N, …, P, 4) as (N · 4, …, P)."""
    return tensor.movedim(-1, 1).flatten(0, 1)


def border_align_forward(input: Tensor, boxes: Tensor, output: Tensor, argmax_idx: Tensor, pool_size: int) -> None:
    """Fill ``output`` and ``argmax_idx``, the step from 0 to pool_size that has the largest value."""
    n, c, height, width = input.shape
    maps = input.reshape(n * 4, c // 4, height, width)
    output.fill_(-torch.inf)
    for step in range(pool_size + 1):
        y, x = points(boxes, pool_size, boxes.new_tensor(step))
        values = sample(maps, sides(y), sides(x)).view(n, 4, c // 4, -1).movedim(1, -1)
        argmax_idx.masked_fill_(values > output, step)
        torch.maximum(output, values, out=output)


def border_align_backward(
    grad_output: Tensor, boxes: Tensor, argmax_idx: Tensor, grad_input: Tensor, pool_size: int
) -> None:
    """Add to ``grad_input``, which is zero: the points that were largest get the gradient."""
    n, c, height, width = grad_input.shape
    steps = argmax_idx.movedim(1, 0).to(boxes)  # (C, N, P, 4)
    y, x = points(boxes, pool_size, steps)
    indices, weights = corners(y, x, height, width)
    target = grad_input.view(n, 4, c // 4, height * width)
    grad = grad_output.permute(0, 3, 1, 2)  # (N, 4, C, P)
    for index, weight in zip(indices, weights):
        target.scatter_add_(3, index.permute(1, 3, 0, 2), grad * weight.permute(1, 3, 0, 2))
