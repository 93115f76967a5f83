"""Timing and memory of functions side by side, on any device."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import torch

DTYPES = {'float32': torch.float32, 'float16': torch.float16, 'bfloat16': torch.bfloat16}
LAYOUTS = {'contiguous': torch.contiguous_format, 'channels_last': torch.channels_last}
# Many times a GPU's L2 cache: written before every run, so that none finds its input there.
FLUSH_BYTES = 256 << 20


def interleave(
    functions: dict[str, Callable[[], object]],
    device: torch.device,
    repeat: int,
    least: float = 0.005,
    progress: Callable[[int], object] = lambda rounds: None,
) -> dict[str, float]:
    """Median time of one call of each function, in seconds.

    The functions take turns, in another order every round, so that what else the machine does falls on all alike.

    Args:
        functions: What to time, by name. Each is called twice before.
        device: Where they run.
        repeat: Rounds.
        least: Shortest time of a measurement on a CPU, in seconds; quicker functions are called several times for one.
            Defaults to 0.005.
        progress: Called with the number of rounds done, after each. Defaults to doing nothing.
    """
    names = list(functions)
    times: dict[str, list[float]] = {name: [] for name in functions}
    calls = {}
    for name, function in functions.items():
        function()
        synchronize(device)
        start = time.perf_counter()
        function()
        synchronize(device)
        calls[name] = 1 if device.type == 'cuda' else max(1, round(least / (time.perf_counter() - start)))
    for round_ in range(repeat):
        shift = round_ % len(names)
        for name in names[shift:] + names[:shift]:
            times[name].append(_time(functions[name], device, calls[name]))
        progress(round_ + 1)
    return {name: median(values) for name, values in times.items()}


def _time(function: Callable[[], object], device: torch.device, calls: int) -> float:
    if device.type == 'cuda':
        torch.empty(FLUSH_BYTES, dtype=torch.int8, device=device).zero_()
        before, after = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        before.record()
        function()
        after.record()
        after.synchronize()
        return before.elapsed_time(after) / 1e3
    synchronize(device)
    start = time.perf_counter()
    for _ in range(calls):
        function()
    synchronize(device)
    return (time.perf_counter() - start) / calls


def synchronize(device: torch.device) -> None:
    """Wait for what a device was given to do."""
    if device.type != 'cpu':
        getattr(torch, device.type).synchronize()


def usable_device(name: str) -> torch.device:
    """The device called ``name``, one that PyTorch can use here and whose memory it reports.

    Raises:
        ValueError: it isn't. The message says why.
    """
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).partition('. ')[0]
        raise ValueError(f'PyTorch can not use {name!r} here: {reason}') from error
    if device.type != 'cpu' and not hasattr(getattr(torch, device.type, None), 'max_memory_allocated'):
        raise ValueError(f'PyTorch does not report the memory of {name!r}; it does of cpu, cuda, xpu and their like')
    return device


def peak_memory(function: Callable[[], object], device: torch.device) -> int:
    """Most memory, in bytes, that a call allocates at a time on a :func:`usable_device`."""
    function()
    if device.type != 'cpu':
        accelerator = getattr(torch, device.type)
        accelerator.synchronize(device)
        accelerator.reset_peak_memory_stats(device)
        before = accelerator.memory_allocated(device)
        function()
        accelerator.synchronize(device)
        return accelerator.max_memory_allocated(device) - before
    os.environ.setdefault('KINETO_LOG_LEVEL', '99')  # or the profiler prints its own starts and stops
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        function()
    allocated = peak = 0
    for event in profile.profiler.kineto_results.events():
        if event.name() == '[memory]':
            allocated += event.nbytes()
            peak = max(peak, allocated)
    return peak


def kept_memory(function: Callable[[], object]) -> int:
    """Memory, in bytes, that autograd keeps for the gradient of what ``function`` computes."""
    kept = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        result = function()
    del result
    return sum(kept.values())


def free_memory() -> int:
    """Bytes of main memory that a program can have; 0 where the system doesn't tell."""
    try:
        lines = Path('/proc/meminfo').read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith('MemAvailable'))
    except (OSError, StopIteration):
        pages = getattr(os, 'sysconf_names', {}).get('SC_AVPHYS_PAGES')
        return os.sysconf('SC_AVPHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') if pages else 0


def environment(device: torch.device) -> dict[str, str | int]:
    """Describe where a table's times were taken."""
    if device.type == 'cuda':
        name = torch.cuda.get_device_name(device)
    else:
        cpus = Path('/proc/cpuinfo')
        lines = cpus.read_text().splitlines() if cpus.exists() else []
        name = next((line.partition(':')[2].strip() for line in lines if line.startswith('model name')), '')
    return dict(
        device=f'{device.type}: {name or platform.processor() or platform.machine()}',
        threads=torch.get_num_threads(),
        pytorch=torch.__version__,
        python=platform.python_version(),
        system=platform.platform(),
        date=time.strftime('%Y-%m-%d %H:%M'),
    )
