"""Attention for OpenMMLab and for any PyTorch network.

Importing it registers its modules, heads, hooks, metrics, transforms and checkpoint loaders, and has every runner of
MMEngine load and save checkpoints as this package does, no more.

With PyTorch alone there are :func:`attach`, :mod:`ean_mmdet.attention` and :mod:`ean_mmdet.ops`; the rest needs
MMDetection.
"""

from importlib.util import find_spec

__version__ = '0.2.0'
__all__ = ['__version__', 'attach', 'attention', 'detach', 'insertion', 'ops', 'positions']

from . import attention, insertion, mmcv_finder, ops
from .insertion import attach, detach, positions

mmcv_finder.install()

if all(find_spec(name) is not None for name in ('mmengine', 'mmcv', 'mmdet')):
    from . import backbones, checkpoint, datasets, evaluation, heads, hooks, norms

    checkpoint.register_loaders()
    hooks.install_hooks()
    __all__ += ['backbones', 'checkpoint', 'datasets', 'evaluation', 'heads', 'hooks', 'norms']
