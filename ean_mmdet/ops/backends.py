"""Choice of the implementation that computes a gate.

An implementation is a module with ``forward``, ``backward`` (see :mod:`.norm_gate_eager`) and ``IN_PLACE``, whether its
``forward`` takes an ``out`` that is its input.
"""

from __future__ import annotations

import logging
import os
from functools import cache
from types import ModuleType

import torch
from torch import Tensor

from . import norm_gate_cpp, norm_gate_eager
from .self_check import Checked

Implementation = ModuleType | Checked
BACKENDS = ('eager', 'cpp', 'triton')
FORCED = os.environ.get('EAN_BACKEND')  # read once: between two convolutions it would take as long as a small map
TYPES = (torch.float32, torch.float16, torch.bfloat16)  # that the compiled kernels take


def backend(z: Tensor) -> Implementation:
    """The implementation for ``z``: the fastest that can take it, or the one that ``EAN_BACKEND`` names.

    Raises:
        ValueError: ``EAN_BACKEND`` is unknown.
        RuntimeError: It names one that can't run here.
    """
    forced = FORCED
    if forced is None and z.is_cpu and z.dtype in TYPES and norm_gate_cpp.missing() is None:
        return norm_gate_cpp
    if forced not in (None, *BACKENDS):
        raise ValueError(f'EAN_BACKEND must be one of {", ".join(BACKENDS)}, or unset, got {forced!r}')
    if forced == 'eager':
        return norm_gate_eager
    fastest = forced or ('triton' if z.is_cuda else 'cpp')
    obstacle = (_triton_obstacle if fastest == 'triton' else _cpp_obstacle)(z)
    if obstacle is None:
        if fastest == 'cpp':
            return norm_gate_cpp
        kernels = _triton()
        assert kernels is not None  # no obstacle
        return kernels if forced else _checked(kernels)
    if forced:
        raise RuntimeError(f'EAN_BACKEND={forced} can not run here: {obstacle}')
    if fastest == 'cpp' and z.dtype in TYPES and z.device.type == 'cpu':
        _hint()
    return norm_gate_eager


def _cpp_obstacle(z: Tensor) -> str | None:
    """Why the compiled kernels can't take ``z``; None if they can."""
    if z.dtype not in TYPES:
        return f'its kernels take {", ".join(map(str, TYPES))}, and the map is {z.dtype}'
    if z.device.type != 'cpu':
        return f'its kernels are for the CPU, and the map is on {z.device}'
    return norm_gate_cpp.missing()


@cache
def _hint() -> None:
    """Say once what would make it fast."""
    logging.getLogger('ean_mmdet').warning(
        'EAN computes in plain PyTorch here: %s. It is several times as fast with its compiled kernels: reinstall '
        'ean_mmdet (`pip install .` in its folder) where a C++ compiler and PyTorch 2.10 or later are. '
        'EAN_BACKEND=eager silences this line.',
        norm_gate_cpp.missing(),
    )


@cache
def _triton() -> ModuleType | None:
    try:
        import triton
    except ImportError:
        return None
    if int(triton.__version__.partition('.')[0]) < 3:
        return None
    from . import norm_gate_triton

    return norm_gate_triton


_checked = cache(Checked)  # each of its kernels is compared with eager PyTorch at its first use on a device


def _triton_obstacle(z: Tensor) -> str | None:
    """Why Triton's kernels can't take ``z``; None if they can."""
    kernels = _triton()
    if kernels is None:
        return 'no Triton 3 is installed'
    if z.dtype not in TYPES:
        return f'its kernels take {", ".join(map(str, TYPES))}, and the map is {z.dtype}'
    if kernels.INTERPRETED:
        return None
    if not z.is_cuda:
        return f'the map is on {z.device}, and Triton needs a GPU, or TRITON_INTERPRET=1 from the start of the process'
    capability = _capability(z.device)
    if capability < kernels.MIN_CAPABILITY:
        return f'{z.device} has compute capability {capability}, and Triton needs {kernels.MIN_CAPABILITY}'
    return None


@cache
def _capability(device: torch.device) -> tuple[int, int]:
    return torch.cuda.get_device_capability(device)
