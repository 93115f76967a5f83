"""Data: the check before a run, loading that says what broke in it, and the generated sample data set."""

from .check import check_data, config_classes
from .loading import GuardedLoadImageFromFile, guard_loading
from .sample import CLASSES, make_sample_dataset

__all__ = [
    'CLASSES',
    'GuardedLoadImageFromFile',
    'check_data',
    'config_classes',
    'guard_loading',
    'make_sample_dataset',
]
