"""Costs of a model: counts, and the papers' tables of them."""

from .against_paper import paper_table
from .complexity import Complexity, ComplexityCounter, count_model, stage_names
from .metafiles import metafiles
from .model_zoo import model_zoo
from .stage_table import stage_table

__all__ = [
    'Complexity',
    'ComplexityCounter',
    'count_model',
    'metafiles',
    'model_zoo',
    'paper_table',
    'stage_names',
    'stage_table',
]
