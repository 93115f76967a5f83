"""Attention modules: plugin layers ``Name(in_channels, …)`` by name in mmengine's root registry."""

from .ean import EAN

__all__ = ['EAN']
