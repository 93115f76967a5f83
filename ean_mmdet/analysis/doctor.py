"""Description of this machine for training: versions, devices, kernels that prove themselves, memory and data."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

import torch
from mmengine.config import Config

from ..datasets.config_parts import as_list, datasets_of, type_name
from ..ops import norm_gate_cpp, self_check
from ..table import Table
from .all_reduce import NUMBERS
from .timing import environment, free_memory

PACKAGES = {
    'mmengine': ('mmengine', 'onedl-mmengine'),
    'mmcv': ('mmcv', 'mmcv-lite', 'onedl-mmcv'),
    'mmdet': ('mmdet', 'onedl-mmdetection'),
    'mmpretrain': ('mmpretrain', 'onedl-mmpretrain'),
    'torchvision': ('torchvision',),
    'timm': ('timm',),
    'triton': ('triton', 'triton-windows'),
    'numpy': ('numpy',),
}
GIB = 1 << 30


def examine(
    folder: Path, config: Config | None = None, every_kernel: bool = False,
    track: Callable[[list], Iterable] = iter,
) -> dict[str, dict]:  # fmt: skip
    """Look at the machine.

    Args:
        folder: Where runs are to write; its disk's free space is told.
        config: A config whose data folders are looked for. Defaults to None.
        every_kernel: Whether to check every variant of the kernels and not those that networks mostly use.
            Defaults to False.
        track: Wraps the list of variants that are checked, to show progress. Defaults to none.

    Returns:
        Sections of names and values, all of which JSON has: ``'versions'``, ``'machine'``, ``'kernels'``,
        ``'distributed'``, and ``'data'`` with a config. A value that begins with ``'!'`` is a problem.
    """
    report: dict[str, dict] = dict(versions=_versions(), machine=_machine(folder))
    report['kernels'] = _kernels(every_kernel, track)
    report['distributed'] = _distributed()
    if config is not None:
        report['data'] = _data(config)
    return report


def tables(report: dict[str, dict]) -> list[Table]:
    """The sections as tables."""
    return [
        Table('', (name, ''), tuple((key, str(value)) for key, value in section.items()))
        for name, section in report.items()
        if section
    ]


def problems(report: dict[str, dict]) -> list[str]:
    """List what is wrong, a line each."""
    return [
        f'{name}, {key}: {value[1:].strip()}'
        for name, section in report.items()
        for key, value in section.items()
        if isinstance(value, str) and value.startswith('!')
    ]


def _versions() -> dict[str, str]:
    from .. import __version__

    found = {'ean_mmdet': __version__, 'Python': platform.python_version(), 'PyTorch': torch.__version__}
    for name, distributions in PACKAGES.items():
        found[name] = next((f'{v} ({d})' if d != name else v for d in distributions if (v := _version(d))), 'none')
    found["mmcv's operators"] = _mmcv_operators()
    return found


def _version(distribution: str) -> str | None:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


def _mmcv_operators() -> str:
    if find_spec('mmcv') is None:
        return '! mmcv is not installed: pip install "ean_mmdet[mmdet]"'
    try:
        import mmcv.ops  # noqa: F401
        from mmcv import _ext
    except ImportError as error:
        return f'! mmcv.ops does not import ({error}); import ean_mmdet before it'
    return 'torchvision and PyTorch (ean_mmdet.mmcv_ops)' if 'mmcv_ops' in (_ext.__file__ or '') else 'compiled'


def _machine(folder: Path) -> dict[str, str]:
    found = {'system': platform.platform(), 'CPU': str(environment(torch.device('cpu'))['device']).partition(': ')[2]}
    found['cores'] = f'{os.cpu_count()}, PyTorch uses {torch.get_num_threads()}'
    if free := free_memory():
        size = os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE')
        found['memory'] = f'{free / GIB:.1f} GiB available of {size / GIB:.1f}'
    place = next(path for path in (folder.resolve(), *folder.resolve().parents) if path.exists())
    disk = shutil.disk_usage(place)
    found['disk'] = f'{disk.free / GIB:.1f} GiB free of {disk.total / GIB:.1f} at {place}'
    if disk.free < GIB:
        found['disk'] = f'! {found["disk"]}; a run needs some'
    for index in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(index)
        free, total = torch.cuda.mem_get_info(index)
        found[f'GPU {index}'] = (
            f'{properties.name}, compute capability {properties.major}.{properties.minor}, '
            f'{properties.multi_processor_count} multiprocessors, {free / GIB:.1f} GiB free of {total / GIB:.1f}'
        )
    found['driver'] = _driver()
    return found


def _driver() -> str:
    try:
        command = ['nvidia-smi', '--query-gpu=driver_version', '--format=csv,noheader']
        result = subprocess.run(command, capture_output=True, text=True, timeout=30)
        driver = result.stdout.strip().splitlines()[0] if result.returncode == 0 and result.stdout.strip() else None
    except (OSError, subprocess.TimeoutExpired):
        driver = None
    built = f'PyTorch was built {f"with CUDA {torch.version.cuda}" if torch.version.cuda else "without CUDA"}'
    if driver and not torch.cuda.is_available():
        return f'! {driver}, and PyTorch cannot use it; {built}'
    return f'{driver}; {built}' if driver else f'no NVIDIA driver; {built}'


def _kernels(every: bool, track: Callable[[list], Iterable]) -> dict[str, str]:
    """Check the kernels of every device anew; kept verdicts don't count."""
    found: dict[str, str] = {}
    devices: list[tuple[torch.device, ModuleType]] = []
    missing = norm_gate_cpp.missing()
    if missing is None:
        found['compiled for the CPU'] = f'yes, {norm_gate_cpp.kernels()}'
        devices.append((torch.device('cpu'), norm_gate_cpp))
    else:
        found['compiled for the CPU'] = f'no, {missing}; EAN computes in plain PyTorch there'
    if torch.cuda.is_available():
        if find_spec('triton') is None:
            found['Triton'] = '! not installed: pip install triton; EAN computes in plain PyTorch on the GPU'
        else:
            from ..ops import norm_gate_triton

            devices += [(torch.device('cuda', index), norm_gate_triton) for index in range(torch.cuda.device_count())]
    chosen = [v for v in self_check.variants() if every or (v.residual == v.relu and v.norm != 'none')]
    results: dict[torch.device, list[str]] = {}
    for device, kernels, variant in track([(*pair, variant) for pair in devices for variant in chosen]):
        problem = self_check.check(kernels, variant, device)
        failed = results.setdefault(device, [])
        if problem is not None:
            failed.append(f'{variant}: {problem}')
    for device, failed in results.items():
        name = f'self-check, {device}'
        found[name] = f'{len(chosen)} of {len(chosen)} kernels agree with PyTorch'
        if failed:
            found[name] = f'! {len(failed)} of {len(chosen)} kernels are wrong, and not used: ' + '; '.join(failed[:5])
    return found


def _distributed() -> dict[str, str]:
    """Add a tensor up over all GPUs, or over two processes on the CPU."""
    if not torch.distributed.is_available():
        return {'all-reduce': '! this PyTorch has no torch.distributed'}
    processes = torch.cuda.device_count() or 2
    with tempfile.TemporaryDirectory() as folder:
        script = Path(__file__).with_name('all_reduce.py')
        command = [sys.executable, '-W', 'ignore', str(script)]
        running = [
            subprocess.Popen(
                [*command, str(rank), str(processes), str(Path(folder, 'meeting'))],
                stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            )
            for rank in range(processes)
        ]  # fmt: skip
        try:
            outputs = [process.communicate(timeout=300) for process in running]
        except subprocess.TimeoutExpired:
            return {'all-reduce': f'! {processes} processes did not meet within 300 s'}
        finally:
            for process in running:
                process.kill()
    for process, (_, errors) in zip(running, outputs):
        if process.returncode:
            lines = errors.strip().splitlines() or [f'ended with {process.returncode}']
            return {'all-reduce': f'! over {processes} processes: {lines[-1]}'}
    backend, seconds = outputs[0][0].split()
    where = 'GPUs' if backend == 'nccl' else 'processes'
    return {'all-reduce': f'{backend}, {processes} {where}, 64 MB in {float(seconds) * 1e3:.0f} ms ({_rate(seconds)})'}


def _rate(seconds: str) -> str:
    return f'{4 * NUMBERS / float(seconds) / 1e9:.1f} GB/s'


def _data(config: Config) -> dict[str, str]:
    """Files and folders that the config's data sets name, and whether they are there."""
    found = {}
    for split in ('train', 'val', 'test'):
        for dataset in datasets_of(config, split):
            for path in _paths(dataset):
                there = path.exists()
                found[str(path)] = 'there' if there else f'! missing, {split} of {type_name(dataset)} reads it'
        for evaluator in as_list(config.get(f'{split}_evaluator')):
            if isinstance(evaluator.get('ann_file'), str):
                path = Path(evaluator['ann_file'])
                found[str(path)] = 'there' if path.exists() else f'! missing, {split}_evaluator reads it'
    return found


def _paths(dataset: dict) -> list[Path]:
    root = Path(dataset.get('data_root') or '')
    prefix = dataset.get('data_prefix') or {}
    values = [dataset.get('ann_file'), *(prefix.values() if isinstance(prefix, dict) else [prefix])]
    paths = [root / value for value in values if isinstance(value, str) and value]
    return list(dict.fromkeys(paths)) or [root]
