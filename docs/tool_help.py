"""Write the reference of the command lines from what `--help` prints."""

from __future__ import annotations

import contextlib
import io
import os
import runpy
import sys
from pathlib import Path

TOOLS = Path(__file__).parents[1] / 'tools'
HEAD = """# Command lines

Every tool prints this with `--help`. [The paper's detectors](../detectors.md) has the
shell scripts for several GPUs and for Slurm.
"""


def tool_help(script: Path) -> str:
    """What ``python tools/NAME.py --help`` prints, at 100 columns."""
    out = io.StringIO()
    saved, columns = sys.argv, os.environ.get('COLUMNS')
    sys.argv, os.environ['COLUMNS'] = [f'tools/{script.name}', '--help'], '100'
    try:
        with contextlib.redirect_stdout(out), contextlib.suppress(SystemExit):
            runpy.run_path(str(script), run_name='__main__')
    finally:
        sys.argv = saved
        os.environ.pop('COLUMNS') if columns is None else os.environ.update(COLUMNS=columns)
    return out.getvalue().replace(str(Path.home()), '~')


def write_tool_help(target: Path) -> None:
    """Write the page, a section for each tool."""
    parts = [HEAD]
    for script in sorted(script for script in TOOLS.glob('*.py') if 'argparse' in script.read_text(encoding='utf-8')):
        parts.append(f'## {script.name}\n\n```text\n{tool_help(script).strip()}\n```\n')
    target.parent.mkdir(exist_ok=True)
    target.write_text('\n'.join(parts), encoding='utf-8')
