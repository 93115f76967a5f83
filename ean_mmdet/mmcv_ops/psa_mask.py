"""The attention map of PSANet (Zhao et al. 2018): a mask around each place, laid over the whole map.

Shapes: input (N, h_mask · w_mask, H, W), output (N, H · W, H, W).
"""

import torch
from torch import Tensor


def places(
    height: int, width: int, h_mask: int, w_mask: int, half_h: int, half_w: int, device: torch.device
) -> tuple[Tensor, Tensor, Tensor]:
    """Pairs of mask entry (K,) of a place (K,) and the place (K,) that it covers, both in 0 … H · W − 1."""
    i, j, row, column = torch.meshgrid(
        *(torch.arange(size, device=device) for size in (h_mask, w_mask, height, width)), indexing='ij'
    )
    to_row, to_column = row + i - half_h, column + j - half_w
    valid = (to_row >= 0) & (to_row < height) & (to_column >= 0) & (to_column < width)
    entry, place, covered = i * w_mask + j, row * width + column, to_row * width + to_column
    return entry[valid], place[valid], covered[valid]


def psamask_forward(
    input: Tensor,
    output: Tensor,
    *,
    psa_type: int,
    num_: int,
    h_feature: int,
    w_feature: int,
    h_mask: int,
    w_mask: int,
    half_h_mask: int,
    half_w_mask: int,
) -> None:
    """Fill ``output``, which is zero: ``psa_type`` 0 collects, 1 distributes."""
    entry, place, covered = places(h_feature, w_feature, h_mask, w_mask, half_h_mask, half_w_mask, input.device)
    index = (covered, place) if psa_type == 0 else (place, covered)
    output.flatten(2)[(slice(None), *index)] = input.flatten(2)[:, entry, place]


def psamask_backward(
    grad_output: Tensor,
    grad_input: Tensor,
    *,
    psa_type: int,
    num_: int,
    h_feature: int,
    w_feature: int,
    h_mask: int,
    w_mask: int,
    half_h_mask: int,
    half_w_mask: int,
) -> None:
    """Fill ``grad_input``, which is zero."""
    entry, place, covered = places(h_feature, w_feature, h_mask, w_mask, half_h_mask, half_w_mask, grad_input.device)
    index = (covered, place) if psa_type == 0 else (place, covered)
    grad_input.flatten(2)[:, entry, place] = grad_output.flatten(2)[(slice(None), *index)]
