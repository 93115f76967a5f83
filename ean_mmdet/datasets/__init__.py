"""Data: the check before a run, and the generated sample data set."""

from .check import check_data

__all__ = ['check_data']
