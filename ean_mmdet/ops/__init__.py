"""The math of the attention modules, in PyTorch and Triton alone."""

from .fold import WEIGHT_NORMS, fold_ean
from .norm_gate import norm_gate

__all__ = ['WEIGHT_NORMS', 'fold_ean', 'norm_gate']
