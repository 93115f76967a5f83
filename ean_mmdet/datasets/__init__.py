"""Data: the check before a run, loading that says what broke in it, and the generated sample data set."""

from .check import check_data
from .loading import GuardedLoadImageFromFile, guard_loading
from .sample import CLASSES, make_sample_dataset

__all__ = ['CLASSES', 'GuardedLoadImageFromFile', 'check_data', 'guard_loading', 'make_sample_dataset']
