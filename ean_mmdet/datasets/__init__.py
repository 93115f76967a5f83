"""Data: the check before a run, and the generated sample data set."""

from .check import check_data
from .sample import CLASSES, make_sample_dataset

__all__ = ['CLASSES', 'check_data', 'make_sample_dataset']
