"""Temporal interlacing (Shao et al. 2020): groups of channels shifted in time.

Shapes: input (N, T, C, H · W), shift (N, groups) in frames, output as input; what no frame is shifted to is zero.
"""

import torch
from torch import Tensor


def shifted(values: Tensor, shift: Tensor) -> Tensor:
    """Shift frames (N, T, C, H · W) in time, each group of channels by its own number."""
    n, frames, c, size = values.shape
    groups = shift.shape[1]
    source = torch.arange(frames, device=values.device)[:, None] - shift.long()[:, None]  # (N, T, groups)
    inside = (source >= 0) & (source < frames)
    values = values.reshape(n, frames, groups, c // groups * size)
    taken = values.gather(1, source.clamp(0, frames - 1)[..., None].expand_as(values))
    return (taken * inside[..., None]).view(n, frames, c, size)


def tin_shift_forward(input: Tensor, shift: Tensor, output: Tensor) -> None:
    """Fill ``output``: frame t + shift is frame t."""
    output.copy_(shifted(input, shift))


def tin_shift_backward(grad_output: Tensor, shift: Tensor, grad_input: Tensor) -> None:
    """Fill ``grad_input``: shifted back."""
    grad_input.copy_(shifted(grad_output, -shift))
