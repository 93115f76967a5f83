"""What a model costs: parameters, operations, activations, and the paper's tables of them."""

from .complexity import Complexity, ComplexityCounter, build_model, count_model, input_shape, stage_names
from .report import Table, model_zoo, paper_table, stage_table

__all__ = [
    'Complexity',
    'ComplexityCounter',
    'Table',
    'build_model',
    'count_model',
    'input_shape',
    'model_zoo',
    'paper_table',
    'stage_names',
    'stage_table',
]
