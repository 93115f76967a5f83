"""Checkpoints: safe loading and saving. Importing it registers the loaders and the hook."""

from .fit import check_fit
from .safe_checkpoint_hook import SafeCheckpointHook
from .safe_load import load_local

__all__ = ['SafeCheckpointHook', 'check_fit', 'load_local']
