"""Outcomes of trainings and tests: metrics, results, errors, reports and comparisons.

Importing it registers metrics, and what a comparison's configs name; the modules beside need the extra ``analysis``.
"""

from .coco_metric import FastCocoMetric
from .controls import ConstantMask
from .repeatable import RepeatableDataset, RepeatableSampler, RepeatableSteps
from .results import WriteClasses, WriteDetections

__all__ = [
    'ConstantMask',
    'FastCocoMetric',
    'RepeatableDataset',
    'RepeatableSampler',
    'RepeatableSteps',
    'WriteClasses',
    'WriteDetections',
]
