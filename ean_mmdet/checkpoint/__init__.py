"""Checkpoints: safe loading and saving, and warm start. Importing it registers the weight initializers."""

from .convert import convert_checkpoint
from .fit import check_finite, check_fit, first_not_finite
from .initializers import CheckedPretrained, WarmStart
from .latest import latest_checkpoint
from .loaded import is_loaded, moment, note_loaded
from .loaders import register_loaders
from .plain import to_plain
from .reading import weights_in
from .safe_load import load_local
from .warm_start import fit_weights, load_weights, load_whole

__all__ = [
    'CheckedPretrained',
    'WarmStart',
    'check_finite',
    'check_fit',
    'convert_checkpoint',
    'first_not_finite',
    'fit_weights',
    'is_loaded',
    'latest_checkpoint',
    'load_local',
    'load_weights',
    'load_whole',
    'moment',
    'note_loaded',
    'register_loaders',
    'to_plain',
    'weights_in',
]
