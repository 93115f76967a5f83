"""Hooks of the training loop. Importing it registers them. Those about checkpoints are in `ean_mmdet.checkpoint`."""

from .atomic_checkpoint_hook import AtomicCheckpointHook
from .channels_last_hook import ChannelsLastHook

__all__ = ['AtomicCheckpointHook', 'ChannelsLastHook']
