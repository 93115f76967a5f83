"""The types that the operations compute in."""

from __future__ import annotations

import torch
from torch import Tensor


def arithmetic_type(x: Tensor) -> torch.dtype:
    """The type that is computed in for ``x``: float64 for float64, float32 for all others."""
    return torch.float64 if x.dtype == torch.float64 else torch.float32


def in_type(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """Tensor.to, without the 2 µs that it takes to find nothing to do."""
    return tensor if tensor.dtype == dtype else tensor.to(dtype)


def in_one_type(x: Tensor, residual: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """``x``, if of a floating-point type, and ``residual`` in the wider of their types."""
    if residual is None or residual.dtype == x.dtype or not x.is_floating_point():
        return x, residual
    dtype = torch.promote_types(x.dtype, residual.dtype)
    return x.to(dtype), residual.to(dtype)
