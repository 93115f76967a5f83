"""One page about a run: what was trained, how it went, and which errors cost the most.

It needs what the analysis tools need, and works for any run of MMDetection's.
"""

from .matching import average_precision, class_hits, class_precisions, confusion, match
from .predictions import Detections, read_predictions
from .report import Settings, write_report
from .tide import Errors, error_kinds

__all__ = [
    'Detections',
    'Errors',
    'Settings',
    'average_precision',
    'class_hits',
    'class_precisions',
    'confusion',
    'error_kinds',
    'match',
    'read_predictions',
    'write_report',
]
