"""Checkpoints: safe loading and saving. Importing it registers the loaders and the hook."""

from .safe_checkpoint_hook import SafeCheckpointHook
from .safe_load import load_local

__all__ = ['SafeCheckpointHook', 'load_local']
