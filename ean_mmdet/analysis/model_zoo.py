"""The model zoo's page: the paper's tables and a list of configs."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from mmengine.config import Config

from ..engine import build_model
from ..table import Table
from .against_paper import paper_table
from .paper_tables import TABLES, PaperRow

# Where the papers' rows are: the EAN paper's, AN's and ELA's.
FOLDERS = ('.', 'an', 'ela')
HEAD = """\
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
    parts = [HEAD]
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
