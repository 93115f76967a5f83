"""What a training or a test came to: metrics, results, errors, reports and comparisons.

Importing it registers the metrics; the modules beside need the extra ``analysis``.
"""

from .coco_metric import FastCocoMetric
from .results import WriteClasses, WriteDetections

__all__ = ['FastCocoMetric', 'WriteClasses', 'WriteDetections']
