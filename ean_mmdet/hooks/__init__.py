"""Hooks of the training loop. Importing it registers them. Those about checkpoints are in `ean_mmdet.checkpoint`."""

from .channels_last_hook import ChannelsLastHook

__all__ = ['ChannelsLastHook']
