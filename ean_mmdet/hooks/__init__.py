"""Hooks of the training loop. Importing it registers them."""

from .atomic_checkpoint_hook import AtomicCheckpointHook
from .batch_norm_check_hook import BatchNormCheckHook
from .channels_last_hook import ChannelsLastHook
from .named_pictures_hook import NamedPicturesHook
from .safe_checkpoint_hook import SafeCheckpointHook, install_hooks
from .test_visualization_hook import TestVisualizationHook
from .validate_first_hook import ValidateFirstHook

__all__ = [
    'AtomicCheckpointHook',
    'BatchNormCheckHook',
    'ChannelsLastHook',
    'NamedPicturesHook',
    'SafeCheckpointHook',
    'TestVisualizationHook',
    'ValidateFirstHook',
    'install_hooks',
]
