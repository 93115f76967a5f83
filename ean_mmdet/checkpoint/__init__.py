"""Checkpoints: safe loading and saving, and warm start. Importing it registers the weight initializers."""

from .compatibility import check_compatibility, check_finite, first_not_finite
from .convert import convert_checkpoint
from .initializers import CheckedPretrained, WarmStart
from .latest import latest_checkpoint
from .loaded import is_loaded, moment, note_loaded
from .loaders import register_loaders
from .plain import to_plain
from .reading import weights_in
from .safe_load import load_local
from .warm_start import adapt_weights, load_complete, load_weights

__all__ = [
    'CheckedPretrained',
    'WarmStart',
    'adapt_weights',
    'check_compatibility',
    'check_finite',
    'convert_checkpoint',
    'first_not_finite',
    'is_loaded',
    'latest_checkpoint',
    'load_complete',
    'load_local',
    'load_weights',
    'moment',
    'note_loaded',
    'register_loaders',
    'to_plain',
    'weights_in',
]
