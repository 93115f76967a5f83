"""The math of the attention modules, in PyTorch, C++ and Triton alone."""

from .ean_gate import ean_gate
from .fold import WEIGHT_NORMS
from .norm_gate import batch_norm_gate, norm_gate

__all__ = ['WEIGHT_NORMS', 'batch_norm_gate', 'ean_gate', 'norm_gate']
