"""What was counted, as tables for the terminal and for Markdown, and the model zoo's page."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mmengine.config import Config
from rich.console import Group
from rich.table import Table as RichTable
from rich.text import Text

from ..engine import build_model, input_shape
from .complexity import Complexity, count_model, stage_names
from .paper_tables import TABLES, CountedRow, PaperRow, count_table

UNITS = {'M': 1e6, 'G': 1e9}
# Where the papers' rows are: the EAN paper's, AN's and ELA's.
FOLDERS = ('.', 'an', 'ela')


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

    def markdown(self) -> str:
        """The table and its notes in Markdown, without the title."""
        ruler = ['---:' if figures else '---' for figures in self._figures()]
        lines = [f'| {" | ".join(cells)} |' for cells in (self.header, ruler, *self.rows)]
        notes = [f'\n{note}' for note in self.notes]
        return '\n'.join([*lines, *notes]) + '\n'

    def rich(self) -> Group:
        """The table and its notes for a ``rich`` console."""
        table = RichTable(title=self.title, title_justify='left')
        for name, figures in zip(self.header, self._figures()):
            table.add_column(name, justify='right' if figures else 'left', overflow='fold')
        for cells in self.rows:
            table.add_row(*cells)
        return Group(table, *(Text(note) for note in self.notes))

    def _figures(self) -> list[bool]:
        """Whether each column holds nothing but figures, with units or signs, and empty cells."""
        return [all(re.fullmatch(r'[-+=\d., ]*[MG]?', cell) for cell in column) for column in zip(*self.rows)]


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
        rows.append(_detection_cells(counted) if counted.row.operations is None else _classification_cells(counted))
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
    unit = row.operations[-1]
    return (
        row.name,
        f'{complexity.params / 1e6:.4f}',
        row.params,
        difference(complexity.params, row.params, 'M'),
        f'{complexity.operations / UNITS[unit]:.{3 if unit == "M" else 4}f} {unit}',
        f'{row.operations[:-1]} {unit}',
        difference(complexity.operations, row.operations[:-1], unit),
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


def stage_table(config: Config, title: str, shape: tuple[int, int] | None = None) -> Table:
    """What each stage of a config's model costs for one image, and what attention adds to it.

    Args:
        config: The config, of any OpenMMLab library.
        title: Name of the model.
        shape: Height and width of the image. Defaults to None, what the config tests on.
    """
    shape = shape or input_shape(config)
    model = build_model(config)
    counter = count_model(model, shape)
    total = counter.count()
    rows = [_stage_cells(counter.count(name), name) for name in stage_names(model)]
    notes = [
        f'{kind} × {number}{_shared(total, kind)}: the attention adds {total.attention_params:,} parameters '
        f'({total.attention_params / (total.params - total.attention_params):.3%}) and '
        f'{total.attention_operations:,} operations '
        f'({total.attention_operations / (total.operations - total.attention_operations):.3%}).'
        for kind, number in total.attention.items()
    ]
    if len(total.attention) > 1:
        notes.append('Each of these lines is about all attention modules together.')
    if total.uncounted:
        notes.append(f'No rule counts the operations of {", ".join(total.uncounted)}.')
    header = (
        'Stage',
        'Output',
        'Params',
        'Operations (M)',
        'Activations (M)',
        'Attention: params',
        'Attention: operations (M)',
    )
    return Table(
        f'{title}, {shape[0]} × {shape[1]}', header, (*rows, _stage_cells(total, 'total', output='')), tuple(notes)
    )


def _shared(total: Complexity, kind: str) -> str:
    """How often modules of a type are used, where blocks share them."""
    uses = total.attention_uses.get(kind, 0)
    return f', shared by {uses} blocks' if uses > total.attention[kind] else ''


def _stage_cells(complexity: Complexity, name: str, output: str | None = None) -> tuple[str, ...]:
    if output is None:
        output = ' × '.join(str(side) for side in complexity.output or ())
    return (
        name,
        output,
        f'{complexity.params:,}',
        f'{complexity.operations / 1e6:,.3f}',
        f'{complexity.activations / 1e6:,.3f}',
        f'{complexity.attention_params:,}',
        f'{complexity.attention_operations / 1e6:,.3f}',
    )


MODEL_ZOO_HEAD = """\
# Model zoo

<!-- Written by `python tools/complexity.py --model-zoo`: change what that prints, not this page. -->

The rows of the EAN paper's tables, as configs and as figures. Parameters and operations are counted by
`tools/complexity.py` and stand beside what the paper prints; *difference* is ours, rounded as the paper prints it,
less the paper's. **Accuracies are the paper's** (Li, Li and Wen, AAAI 2024), not measured with these configs, and there
are no checkpoints to download. Tables 1 to 3 are the configs of [`configs/pretrain/`](../configs/pretrain), named
`MODULE_NETWORK_DATASET.py`; the others are listed at the end.

For any config, `python tools/complexity.py CONFIG` prints the same figures stage by stage, and what the attention adds.
"""


def model_zoo(configs: Path, progress: Callable[[str], object] = lambda name: None) -> str:
    """The model zoo's page in Markdown: the paper's tables and a list of the configs.

    Args:
        configs: Folder of the configs.
        progress: Called with a name whenever something is counted.
    """
    parts = [MODEL_ZOO_HEAD]
    for number in TABLES:
        table = paper_table(number, configs, progress)
        notes = table.notes
        body = Table(table.title, table.header, table.rows).markdown()
        parts.append(f'## {table.title}\n\n{body}\n' + ''.join(f'- {note}\n' for note in notes))
    parts.append(f'## Configs\n\n{_config_table(configs).markdown()}')
    return '\n'.join(parts)


def _config_table(configs: Path) -> Table:
    paper = {row.config: (number, row) for number in TABLES for group in TABLES[number].groups for row in group}
    rows = []
    for file in (file for folder in FOLDERS for file in sorted((configs / folder).glob('*.py'))):
        config = Config.fromfile(file)
        params = sum(p.numel() for p in build_model(config).parameters())
        number, row = paper.get(file.stem, (None, None))
        rows.append(
            (
                f'[{file.stem}](../configs/{file.relative_to(configs).as_posix()})',
                _headline(file),
                f'{params / 1e6:.3f}',
                f'{number}' if number else '',
                _metrics(row) if row else '',
            )
        )
    return Table('Configs', ('Config', 'What', 'Params (M)', 'Table', 'Accuracy (paper)'), tuple(rows))


def _headline(file: Path) -> str:
    """The comment at the head of a config, as one line without the table's number and the full stop."""
    lines = []
    for line in file.read_text(encoding='utf-8').splitlines():
        if not line.startswith('#'):
            break
        lines.append(line.lstrip('# '))
    return re.sub(r'^Table \d: ', '', ' '.join(lines)).rstrip('.')


def _metrics(row: PaperRow) -> str:
    return ', '.join(f'{name} {value}' for name, value in row.metrics.items())
