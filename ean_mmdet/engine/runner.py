"""Building mmengine's runner: on GPUs as mmengine does it, without one on the CPU, distributed runs over gloo."""

from __future__ import annotations

import contextlib
import logging
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.util import find_spec

import torch.distributed
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.dist import master_only
from mmengine.hooks import LoggerHook
from mmengine.registry import RUNNERS
from mmengine.runner import Runner

from ..datasets import guard_loading
from ..errors import InputError
from .settings import build_errors


def build_runner(config: Config, launcher: str = 'none') -> Runner:
    """Build the runner of a config.

    mmengine's own launchers select a CUDA device; where there is none, this starts the process group over gloo and
    wraps the model without a device and without synchronized batch norms. Of several processes the main one alone
    writes the JSON file of a test's results: mmengine 0.10 lets all write it at once, which can leave a broken file.
    Images that break in the course of the run are handled as the config's ``broken_images`` says, see
    :func:`ean_mmdet.datasets.guard_loading`. Where ``hotcoco`` is installed, it computes the numbers of COCO's metric.

    Args:
        config: The whole config, ``work_dir`` included.
        launcher: ``'none'``, ``'pytorch'`` (torchrun), ``'slurm'`` or ``'mpi'``. Defaults to ``'none'``.

    Raises:
        InputError: What the config says can't be built.
    """
    config.launcher = launcher
    guard_loading(config)
    if launcher != 'none' and get_device() == 'cpu':
        with _connection_explained():
            _init_cpu_process_group(launcher)
        config.sync_bn = None  # PyTorch synchronizes batch norms on GPUs alone
        config.model_wrapper_cfg = dict(
            type='MMDistributedDataParallel',
            device_ids=None,
            broadcast_buffers=False,
            find_unused_parameters=config.get('find_unused_parameters', False),
        )
    with build_errors(config), _connection_explained():
        runner = RUNNERS.build(config) if 'runner_type' in config else Runner.from_cfg(config)
    _use_fast_metrics(runner)
    for hook in runner.hooks:
        if isinstance(hook, LoggerHook):
            hook.after_test_epoch = master_only(hook.after_test_epoch)
    runner.resume = _explained(runner.resume)
    return runner


def _use_fast_metrics(runner: Runner) -> None:
    """Have ``FastCocoMetric`` in ``CocoMetric``'s place; the config, which others may read, keeps its name."""
    if find_spec('hotcoco') is None:
        return
    for name in ('_val_evaluator', '_test_evaluator'):
        wanted = getattr(runner, name)
        entries = wanted if isinstance(wanted, list) else [wanted]
        changed = [
            dict(entry, type='FastCocoMetric')
            if isinstance(entry, dict) and entry.get('type') in ('CocoMetric', 'mmdet.CocoMetric')
            else entry
            for entry in entries
        ]
        setattr(runner, name, changed if isinstance(wanted, list) else changed[0])


@contextlib.contextmanager
def _connection_explained() -> Iterator[None]:
    """One line where the processes of a run don't find each other."""
    try:
        yield
    except torch.distributed.DistError as error:
        address = ':'.join(os.environ.get(name, '?') for name in ('MASTER_ADDR', 'MASTER_PORT'))
        raise InputError(
            f'the processes of the run cannot meet at {address} ({str(error).splitlines()[0]}). Is the port taken, by '
            f'another run perhaps? Set PORT of dist_train.sh, or MASTER_PORT, to one that is free'
        ) from error


def finish() -> None:
    """End a process whose work is done. The last call of a command line.

    Where it is one of several over gloo, it waits for the others and leaves without taking the interpreter down: gloo's
    threads now and then outlive that and abort the process, which the launcher takes for a failed run.
    """
    if torch.distributed.is_initialized() and torch.distributed.get_backend() == 'gloo':
        torch.distributed.barrier()
        logging.shutdown()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)


def _explained(resume: Callable[..., None]) -> Callable[..., None]:
    """``Runner.resume`` with one line where a training state is damaged or another run's."""

    def explained(filename: str, *args, **kwargs) -> None:
        try:
            resume(filename, *args, **kwargs)
        except InputError:
            raise
        except (AttributeError, IndexError, KeyError, TypeError, ValueError, RuntimeError) as error:
            raise InputError(
                f'training cannot resume from {filename}: its training state is damaged or of another run '
                f'({type(error).__name__}: {error}). Take another checkpoint, or start from its weights: '
                f'--cfg-options load_from={filename}'
            ) from error

    return explained


def _init_cpu_process_group(launcher: str) -> None:
    if launcher == 'slurm':
        nodes = os.environ['SLURM_NODELIST']
        hosts = subprocess.run(['scontrol', 'show', 'hostnames', nodes], capture_output=True, text=True, check=True)
        os.environ.setdefault('MASTER_ADDR', hosts.stdout.split()[0])
        os.environ.setdefault('MASTER_PORT', '29500')
        os.environ['RANK'] = os.environ['SLURM_PROCID']
        os.environ['WORLD_SIZE'] = os.environ['SLURM_NTASKS']
        os.environ['LOCAL_RANK'] = os.environ['SLURM_LOCALID']
    elif launcher == 'mpi':
        os.environ['RANK'] = os.environ['OMPI_COMM_WORLD_RANK']
        os.environ['WORLD_SIZE'] = os.environ['OMPI_COMM_WORLD_SIZE']
        os.environ.setdefault('MASTER_ADDR', '127.0.0.1')
        os.environ.setdefault('MASTER_PORT', '29500')
    torch.distributed.init_process_group('gloo')
