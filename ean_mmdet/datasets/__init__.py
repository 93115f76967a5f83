"""Data: the check before a run, loading that says what broke in it, splits, and the generated sample data set."""

from .check import Checked, check_data
from .config_parts import config_classes
from .loading import GuardedLoadImageFromFile, guard_loading
from .sample import CLASSES, make_sample_dataset
from .split import SplitDataset, split_training_data

__all__ = [
    'CLASSES',
    'Checked',
    'GuardedLoadImageFromFile',
    'SplitDataset',
    'check_data',
    'config_classes',
    'guard_loading',
    'make_sample_dataset',
    'split_training_data',
]
