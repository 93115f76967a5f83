"""Checkpoints: safe loading and saving, and warm start. Importing it registers what is in it."""

from .convert import convert_checkpoint
from .fit import check_fit, weights_in
from .latest import latest_checkpoint
from .pretrained import CheckedPretrained
from .safe_checkpoint_hook import SafeCheckpointHook
from .safe_load import load_local
from .validate_first_hook import ValidateFirstHook
from .warm_start import WarmStart, warm_start

__all__ = [
    'CheckedPretrained',
    'SafeCheckpointHook',
    'ValidateFirstHook',
    'WarmStart',
    'check_fit',
    'convert_checkpoint',
    'latest_checkpoint',
    'load_local',
    'warm_start',
    'weights_in',
]
