"""Tables 1 to 5 of the EAN paper: each row's model, what the paper prints and what we count.

Li, Li and Wen, 'EAN: An Efficient Attention Module Guided by Normalization for Deep Neural Networks', AAAI 2024. The
figures are in ``paper_tables.yml``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml
from mmengine.config import Config

from ..engine import build_model, input_shape
from .complexity import Complexity, count_model


@dataclass(frozen=True)
class PaperRow:
    """One row of a table of the paper.

    Attributes:
        name: The paper's name of the network.
        config: The row's config, its path under ``configs/`` without ``.py``.
        params: Parameters as the paper prints them, in millions.
        metrics: The paper's accuracies by name.
        operations: Operations as the paper prints them, with their unit, ``'343.66M'``; empty where it prints none.
    """

    name: str
    config: str
    params: str
    metrics: dict[str, str]
    operations: str = ''


@dataclass(frozen=True)
class PaperTable:
    """A table of the paper.

    Attributes:
        title: What it is about.
        groups: Its rows, the plain network first in each group.
        notes: What to know about the figures that differ.
        shape: Height and width of the images where the configs don't say. Defaults to None.
    """

    title: str
    groups: tuple[tuple[PaperRow, ...], ...]
    notes: tuple[str, ...]
    shape: tuple[int, int] | None = None


def load_tables() -> dict[int, PaperTable]:
    """The tables of the paper by their numbers."""
    content = yaml.safe_load(Path(__file__).with_suffix('.yml').read_text(encoding='utf-8'))
    return {
        number: PaperTable(
            title=table['title'],
            groups=tuple(tuple(PaperRow(**row) for row in group) for group in table['groups']),
            notes=tuple(table['notes']),
            shape=tuple(table['shape']) if 'shape' in table else None,
        )
        for number, table in content.items()
    }


TABLES = load_tables()


@dataclass(frozen=True)
class CountedRow:
    """A row of a table of the paper with our count.

    Attributes:
        row: The row.
        complexity: What we count for its whole network.
        plain: What we count for the plain network of its group.
        plain_row: The plain network's row.
    """

    row: PaperRow
    complexity: Complexity
    plain: Complexity
    plain_row: PaperRow


def count_table(number: int, configs: Path) -> Iterator[CountedRow]:
    """Count the networks of a table, row by row.

    Args:
        number: 1 to 5.
        configs: Folder of the configs.
    """
    table = TABLES[number]
    for group in table.groups:
        plain = None
        for row in group:
            complexity = count_row(row, configs, table.shape)
            plain = plain or complexity
            yield CountedRow(row, complexity, plain, group[0])


def count_row(row: PaperRow, configs: Path, shape: tuple[int, int] | None = None) -> Complexity:
    """Count the network of one row on an image of ``shape``, (height, width), or of the size its config tests on."""
    config = Config.fromfile(configs / f'{row.config}.py')
    return count_model(build_model(config), shape or input_shape(config)).count()
