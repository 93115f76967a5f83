"""Attention in any PyTorch network: where it goes, how it gets there, and how nothing is lost by it.

Plain PyTorch, nothing of OpenMMLab. Positions are data: :func:`positions` lists those of a model, and everything that
needs to know where attention stands (warm start, connections, export, maps) reads that list.
"""

from .attach import Attached, attach, detach
from .connections import set_connections
from .keep_function import constant_map, keep_function, scale, zero_gate_layers
from .positions import Position, positions

__all__ = [
    'Attached',
    'Position',
    'attach',
    'constant_map',
    'detach',
    'keep_function',
    'positions',
    'scale',
    'set_connections',
    'zero_gate_layers',
]
