"""Attention modules: plugin layers ``Name(in_channels, …)`` by name in mmengine's root registry.

Every file here that registers a class is found by itself. Of a class, others read

- ``gate_layers``: the layers that, with weights and biases of zero, make its map constant, which
  :mod:`ean_mmdet.insertion.keep_function` goes by;
- ``count_operations``, where it computes something outside of its layers that :mod:`ean_mmdet.analysis.complexity` is
  to count;
- ``begin`` and ``end``, where the blocks of a stage share one that carries state;
- ``groups``, an argument of that name, which is chosen by the channels where it isn't given.
"""

from importlib import import_module
from pkgutil import iter_modules

from torch import nn

from .base import MODULES

for _file in iter_modules(__path__):
    import_module(f'{__name__}.{_file.name}')

__all__ = ['MODULES', *MODULES]


def __getattr__(name: str) -> type[nn.Module]:
    if name in MODULES:
        return MODULES[name]
    raise AttributeError(f'ean_mmdet.attention has no {name}; it has {", ".join(MODULES)}')


def __dir__() -> list[str]:
    return [*globals(), *MODULES]
