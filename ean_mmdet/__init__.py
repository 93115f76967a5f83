"""EAN for OpenMMLab. Importing it registers its modules, heads, hooks and checkpoint loaders; nothing else happens."""

from . import attention, backbones, checkpoint, heads

__version__ = '0.1.0'
__all__ = ['__version__', 'attention', 'backbones', 'checkpoint', 'heads']
