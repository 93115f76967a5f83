"""Gradients of an operator that is a differentiable PyTorch function."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor


def gradients(function: Callable[..., Tensor], tensors: Sequence[Tensor], grad_output: Tensor) -> tuple[Tensor, ...]:
    """Compute ``function`` again and differentiate it: less memory between the passes than autograd's own records."""
    with torch.enable_grad():
        inputs = [tensor.detach().requires_grad_() for tensor in tensors]
        return torch.autograd.grad(function(*inputs), inputs, grad_output)
