"""The batch norm in front of a gate, as the operator and its implementations hand it on."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class BatchNorm(NamedTuple):
    """x = (z − mean) / sqrt(var + eps) · weight + bias, all vectors of shape (C,)."""

    weight: Tensor | None
    bias: Tensor | None
    mean: Tensor | None
    """Running mean; in the backward pass, the mean that the forward pass took. None: there is none."""
    var: Tensor | None
    eps: float
    training: bool
    """Tell whether mean and variance are the batch's."""

    @property
    def present(self) -> bool:
        """Tell whether there is a batch norm at all."""
        return self.training or self.mean is not None
