"""The paper's tables with what we count beside what the paper prints."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ..table import Table
from .paper_tables import TABLES, CountedRow, count_table

UNITS = {'M': 1e6, 'G': 1e9}


def difference(count: int, printed: str, unit: str) -> str:
    """Our count, rounded as the paper prints it, less the paper's figure; ``'='`` if that is nothing."""
    decimals = len(printed.partition('.')[2])
    delta = round(round(count / UNITS[unit], decimals) - float(printed), decimals)
    return f'{delta:+.{decimals}f}' if delta else '='


def paper_table(number: int, configs: Path, progress: Callable[[str], object] = lambda name: None) -> Table:
    """A table of the paper: what we count beside what the paper prints.

    Args:
        number: 1 to 5.
        configs: Folder of the configs.
        progress: Called with the name of each row when it is counted.
    """
    rows = []
    for counted in count_table(number, configs):
        progress(counted.row.name)
        rows.append(_classification_cells(counted) if counted.row.operations else _detection_cells(counted))
    metrics = tuple(f'{metric} (paper)' for metric in TABLES[number].groups[0][0].metrics)
    params = ('Params (M)', 'paper', 'difference')
    if TABLES[number].groups[0][0].operations:
        header = ('Network', *params, 'Operations', 'paper', 'difference', *metrics)
    else:
        added = ('added (M)', 'added, paper', 'difference')
        header = ('Backbone', 'Detector', *params, *added, 'Operations (G)', *metrics)
    return Table(f'Table {number}: {TABLES[number].title}', header, tuple(rows), TABLES[number].notes)


def _classification_cells(counted: CountedRow) -> tuple[str, ...]:
    row, complexity = counted.row, counted.complexity
    figure, unit = row.operations[:-1], row.operations[-1]
    return (
        row.name,
        f'{complexity.params / 1e6:.4f}',
        row.params,
        difference(complexity.params, row.params, 'M'),
        f'{complexity.operations / UNITS[unit]:.{3 if unit == "M" else 4}f} {unit}',
        f'{figure} {unit}',
        difference(complexity.operations, figure, unit),
        *row.metrics.values(),
    )


def _detection_cells(counted: CountedRow) -> tuple[str, ...]:
    row, complexity, plain = counted.row, counted.complexity, counted.plain
    added = f'{float(row.params) - float(counted.plain_row.params):.1f}'
    is_plain = row is counted.plain_row
    return (
        row.name,
        'SSDLite320' if row.config.startswith('ssdlite320') else 'Faster R-CNN',
        f'{complexity.params / 1e6:.4f}',
        row.params,
        difference(complexity.params, row.params, 'M'),
        '' if is_plain else f'{(complexity.params - plain.params) / 1e6:.4f}',
        '' if is_plain else added,
        '' if is_plain else difference(complexity.params - plain.params, added, 'M'),
        f'{complexity.operations / 1e9:.3f}',
        *row.metrics.values(),
    )
