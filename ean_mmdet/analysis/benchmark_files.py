"""Exported files side by side, in time and in size."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch

from ..deploy import load_exported
from ..table import Table
from .timing import interleave


def benchmark_files(paths: Sequence[Path], batch: int = 1, repeat: int = 10) -> list[dict]:
    """Time exported ONNX files by onnxruntime, taking turns.

    Args:
        paths: Files of ``tools/export.py``, whose images have the same size.
        batch: Images at a time. Defaults to 1.
        repeat: Rounds, of which the median is taken. Defaults to 10.

    Returns:
        For each file its ``name``, ``bytes``, ``seconds`` a batch and ``ratio`` of these to the first file's.

    Raises:
        InputError: A file is none of ours.
    """
    functions: dict[str, Callable[[], object]] = {}
    for path in paths:
        session, about = load_exported(path)
        shape = batch, 3, about['height'], about['width']
        inputs = dict(images=np.random.default_rng(0).normal(size=shape).astype(np.float32))
        if about['task'] == 'detection':
            inputs['sizes'] = np.array([shape[2:]] * batch, dtype=np.float32)
        functions[str(path)] = partial(session.run, None, inputs)
    times = interleave(functions, torch.device('cpu'), repeat)
    first = times[str(paths[0])]
    return [
        dict(name=name, bytes=Path(name).stat().st_size, seconds=seconds, ratio=seconds / first)
        for name, seconds in times.items()
    ]


def files_table(rows: Sequence[dict]) -> Table:
    """Tabulate what :func:`benchmark_files` returned."""
    cells = [
        (row['name'], f'{row["bytes"] / 1e6:.1f}', f'{1e3 * row["seconds"]:.2f}', row['ratio'])
        for row in rows
    ]  # fmt: skip
    return Table.of('Exported files, by onnxruntime', ('file', 'MB', 'ms', 'of the first'), cells)
