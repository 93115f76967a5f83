"""The math of the attention modules, in PyTorch and Triton alone."""

from .ean_gate import WEIGHT_NORMS, ean_gate
from .norm_gate import norm_gate

__all__ = ['WEIGHT_NORMS', 'ean_gate', 'norm_gate']
