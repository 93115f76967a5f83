"""EAN for OpenMMLab. Importing it registers its modules, heads, hooks, transforms and checkpoint loaders, no more."""

from importlib.util import find_spec

__version__ = '0.1.0'
__all__ = ['__version__', 'ops']

from . import ops

# Without OpenMMLab there is no registry to register in; `ean_mmdet.ops`, which is PyTorch alone, still works.
if find_spec('mmengine') is not None:
    from . import attention, backbones, checkpoint, datasets, heads, hooks

    checkpoint.register_loaders()
    __all__ += ['attention', 'backbones', 'checkpoint', 'datasets', 'heads', 'hooks']
