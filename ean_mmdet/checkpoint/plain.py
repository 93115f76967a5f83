"""Checkpoints of tensors, numbers, strings and containers alone, which PyTorch loads in its safe mode."""

from __future__ import annotations

from typing import Any

import numpy as np
from mmengine.logging import HistoryBuffer

from .safe_load import history_to_plain


def to_plain(value: Any) -> Any:
    """``value`` with tensors, numbers, strings and containers alone."""
    if isinstance(value, HistoryBuffer):
        return history_to_plain(value)
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, dict):
        # In place, so that an OrderedDict keeps its type and its metadata.
        for key in value:
            value[key] = to_plain(value[key])
        return value
    if type(value) in (list, tuple):
        return type(value)(map(to_plain, value))
    return value
