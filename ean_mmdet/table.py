"""A table of text, for the terminal, for Markdown and for a page."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console, Group
from rich.table import Table as RichTable
from rich.text import Text


@dataclass(frozen=True)
class Table:
    """A table of text. Columns of figures are set to the right.

    Attributes:
        title: What it is about.
        header: Names of the columns.
        rows: Texts of the cells.
        notes: Lines to stand below it.
    """

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()

    @classmethod
    def of(
        cls, title: str, header: Sequence[str], rows: Sequence[Sequence[object]], notes: Sequence[str] = ()
    ) -> Table:
        """A table of values: numbers with a comma at thousands, and of three digits behind the point."""
        return cls(title, tuple(header), tuple(tuple(map(_text, row)) for row in rows), tuple(notes))

    @property
    def figures(self) -> list[bool]:
        """Tell of each column whether it holds nothing but figures, with units, signs or intervals, and empty cells."""
        number = r'[-+±=→×\d.,–\[\]() ]*(nan|[MGs%])?'
        return [all(re.fullmatch(number, cell) for cell in column) for column in zip(*self.rows)] or [
            False for _ in self.header
        ]

    def markdown(self) -> str:
        """The table and its notes in Markdown, without the title."""
        ruler = ['---:' if figures else '---' for figures in self.figures]
        lines = [f'| {" | ".join(cells)} |' for cells in (self.header, ruler, *self.rows)]
        notes = [f'\n{note}' for note in self.notes]
        return '\n'.join([*lines, *notes]) + '\n'

    def print(self) -> None:
        """Print the table and its notes; into a pipe, which has no width, without cutting any of it."""
        Console(width=None if sys.stdout.isatty() else 200).print(self.rich())

    def rich(self) -> Group:
        """The table and its notes for a ``rich`` console."""
        table = RichTable(title=self.title, title_justify='left')
        for name, figures in zip(self.header, self.figures):
            table.add_column(name, justify='right' if figures else 'left', overflow='fold')
        for cells in self.rows:
            table.add_row(*cells)
        return Group(table, *(Text(note) for note in self.notes))


def _text(value: object) -> str:
    if isinstance(value, float):
        return f'{value:.3f}'
    return f'{value:,}' if isinstance(value, int) and not isinstance(value, bool) else str(value)
