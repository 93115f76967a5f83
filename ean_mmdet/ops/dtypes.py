"""Types that the operations compute in, and arguments as implementations take them."""

from __future__ import annotations

from typing import Any, TypeVar

import torch
from torch import Tensor

from .batch_norm import BatchNorm
from .fold import Vectors

Fields = TypeVar('Fields', Vectors, BatchNorm)


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


def memory_format(z: Tensor) -> torch.memory_format:
    """The layout that ``z`` has or comes nearest to, and that the output gets."""
    return torch.channels_last if 0 < z.stride(1) < z.stride(3) else torch.contiguous_format


def ready(fields: Fields, dtype: torch.dtype) -> Fields:
    """Return the same with its tensors, the first four of the fields, contiguous and of that type."""
    # a tuple, as PyTorch 2.6 traces no slice of a named one
    first: tuple[Tensor | None, ...] = tuple(fields)[:4]  # type: ignore[assignment]
    for tensor in first:
        if tensor is not None and (tensor.dtype != dtype or not tensor.is_contiguous()):
            values: list[Any] = [t.to(dtype).contiguous() if isinstance(t, Tensor) else t for t in fields]
            return type(fields)(*values)
    return fields
