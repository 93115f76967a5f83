"""The batch that the memory of this machine holds, and how long the schedule takes here."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from mmengine.config import Config

from ..analysis.rehearsal import rehearse
from ..analysis.timing import free_memory
from ..errors import InputError

TRIED = 2  # images a batch on a CPU, where time and memory grow with it
ITERATIONS = 6
FILLED = 0.7  # of the memory that is free
LEAST = 2  # images a batch that batch norms need


@dataclass(frozen=True)
class Fit:
    """Batch and speed of a config on this machine.

    Attributes:
        batch_size: The largest of the detector's usual batches that fits.
        seconds: Of an iteration with it.
        note: How much memory it takes of how much.
    """

    batch_size: int
    seconds: float
    note: str


def fit_batch(load: Callable[[int], Config], usual: tuple[int, int], images: int, size: tuple[int, int]) -> Fit:
    """Find the batch by training a few iterations on made-up images.

    Args:
        load: Gives the config with a batch size.
        usual: The detector's batch on a CPU, and the largest on a GPU.
        images: Training images that there are; a batch has at most an eighth of them.
        size: Width and height of the images.

    Raises:
        InputError: Not even two images fit.
    """
    on_gpu = torch.cuda.is_available()
    most = max(LEAST, min(usual[1] if on_gpu else usual[0], images // 8))
    most = 1 << (most.bit_length() - 1)
    if on_gpu:
        return _fit_gpu(load, most, size)
    before = _resident()
    found = rehearse(load(TRIED), ITERATIONS, size)
    need, free = _peak() - before, free_memory()
    batch = most
    if need > 0 and free:
        while batch > LEAST and need * batch / TRIED > FILLED * free:
            batch //= 2
        note = f'about {need * batch / TRIED / 2**30:.1f} of {free / 2**30:.0f} GiB free'
    else:
        note = 'the usual one, as this system does not tell its memory'
    return Fit(batch, found['seconds'] * batch / TRIED, note)


def _fit_gpu(load: Callable[[int], Config], most: int, size: tuple[int, int]) -> Fit:
    batch, problem = most, None
    while batch >= LEAST:
        torch.cuda.empty_cache()
        free = torch.cuda.mem_get_info()[0]
        try:
            found = rehearse(load(batch), ITERATIONS + 6, size)
        except InputError as error:
            if not isinstance(error.__cause__, torch.OutOfMemoryError):
                raise
            problem = error
        else:
            note = f'{found["memory"] / 2**30:.1f} of {free / 2**30:.0f} GiB free on the GPU'
            if found['memory'] <= 0.9 * free or batch == LEAST:
                return Fit(batch, found['seconds'], note)
        batch //= 2
    raise InputError(f'not even {LEAST} images fit: {problem}')


def _resident() -> int:
    """Bytes that this process has in memory."""
    try:
        return int(Path('/proc/self/statm').read_text().split()[1]) * os.sysconf('SC_PAGE_SIZE')
    except OSError:
        return _peak()


def _peak() -> int:
    """The most bytes that this process had in memory; 0 where the system doesn't tell."""
    try:
        import resource
    except ImportError:  # Windows
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == 'darwin' else peak * 1024
