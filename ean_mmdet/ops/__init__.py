"""The math of the attention modules, in PyTorch alone."""

from .norm_gate import norm_gate

__all__ = ['norm_gate']
