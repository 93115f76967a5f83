"""What a model costs and what its training came to: counts, the paper's tables of them, and curves of runs."""

from .against_paper import paper_table
from .complexity import Complexity, ComplexityCounter, count_model, stage_names
from .model_zoo import model_zoo
from .run_plots import against_table, curves_table, outcomes_against, plot_against, plot_curves
from .runs import Run, choose_metric, read_run, read_runs, short_names
from .stage_table import stage_table
from .table import Table

__all__ = [
    'Complexity',
    'ComplexityCounter',
    'Run',
    'Table',
    'against_table',
    'choose_metric',
    'count_model',
    'curves_table',
    'model_zoo',
    'outcomes_against',
    'paper_table',
    'plot_against',
    'plot_curves',
    'read_run',
    'read_runs',
    'short_names',
    'stage_names',
    'stage_table',
]
