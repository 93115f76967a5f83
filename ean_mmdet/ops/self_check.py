"""Kernels that prove themselves: at its first use on a device each is compared with eager PyTorch.

A GPU, a driver or a version of Triton that nobody here has seen may compile a kernel wrongly, or not at all. So each
variant (type, layout, batch norm, residual, ReLU, forward or backward) runs on small maps first, which take every path
of :mod:`.norm_gate_triton_plan`. Where it fails, eager PyTorch takes over and one line says what to report. Verdicts
are kept in the user's cache folder, by the GPU's model, the versions of PyTorch and Triton, and the kernels' source.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterator
from functools import cache
from itertools import product
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import torch
from torch import Tensor

from ..errors import InputError
from ..files import cache_folder, write_text
from . import norm_gate_eager
from .batch_norm import BatchNorm
from .fold import Vectors

# Largest difference over the largest value: a few roundings of the type.
TOLERANCES = {torch.float32: 1e-4, torch.float16: 4e-3, torch.bfloat16: 3e-2}
NORM_KINDS = ('none', 'evaluation', 'training')


class Variant(NamedTuple):
    """One kernel, as far as its code differs from another's."""

    direction: str
    """``'forward'`` or ``'backward'``."""
    dtype: torch.dtype
    channels_last: bool
    norm: str
    """The batch norm in front: ``'none'``, ``'evaluation'`` or ``'training'``."""
    residual: bool
    """Presence of a residual; in the backward pass, whether its gradient is written."""
    relu: bool

    def __str__(self) -> str:
        parts = [self.direction, str(self.dtype).removeprefix('torch.')]
        parts += ['channels_last' if self.channels_last else 'contiguous']
        parts += {'none': [], 'evaluation': ['batch norm'], 'training': ['batch norm in training']}[self.norm]
        return ', '.join([*parts, *['residual'] * self.residual, *['ReLU'] * self.relu])


def variants() -> Iterator[Variant]:
    """Every variant that a network can ask for."""
    types = product(('forward', 'backward'), TOLERANCES, (False, True), NORM_KINDS, (False, True), (False, True))
    for variant in (Variant(*values) for values in types):
        # without a ReLU the residual's gradient is the output's, and no kernel writes it
        if variant.direction == 'forward' or variant.relu or not variant.residual:
            yield variant


class Checked:
    """An implementation that a map gets only where its kernels computed what eager PyTorch does, and eager otherwise.

    Has the interface of an implementation, see :mod:`.backends`.

    Args:
        kernels: The implementation to check.
    """

    def __init__(self, kernels: ModuleType) -> None:
        self.kernels = kernels
        self.IN_PLACE = kernels.IN_PLACE
        self._trusted: dict[tuple[torch.device, Variant], bool] = {}

    def forward(
        self, z: Tensor, vectors: Vectors, eps: float, residual: Tensor | None, relu: bool, norm: BatchNorm,
        out: Tensor | None = None,
    ) -> tuple[Tensor, Tensor, Tensor | None]:  # fmt: skip
        """As :func:`.norm_gate_eager.forward`, with an ``out`` that may be ``z``."""
        if self._trusts('forward', z, residual is not None, relu, norm):
            return self.kernels.forward(z, vectors, eps, residual, relu, norm, out)
        y, moments, batch = norm_gate_eager.forward(z, vectors, eps, residual, relu, norm)
        return (y if out is None else out.copy_(y)), moments, batch

    def backward(
        self, grad: Tensor, z: Tensor, y: Tensor | None, moments: Tensor, vectors: Vectors, eps: float,
        dresidual: Tensor | None, norm: BatchNorm,
    ) -> tuple[Tensor, tuple[Tensor | None, ...], Tensor | None]:  # fmt: skip
        """As :func:`.norm_gate_eager.backward`."""
        trusted = self._trusts('backward', z, dresidual is not None, y is not None, norm)
        implementation = self.kernels if trusted else norm_gate_eager
        return implementation.backward(grad, z, y, moments, vectors, eps, dresidual, norm)

    def _trusts(self, direction: str, z: Tensor, residual: bool, relu: bool, norm: BatchNorm) -> bool:
        kind = NORM_KINDS[norm.present + norm.training]
        variant = Variant(direction, z.dtype, not z.is_contiguous(), kind, residual, relu)
        trusted = self._trusted.get((z.device, variant))
        if trusted is None:
            if z.is_cuda and torch.cuda.is_current_stream_capturing():
                return False  # nothing can be compared inside a CUDA graph; a warm-up comes before it
            try:
                trusted = verdict(self.kernels, variant, z.device) is None
            except torch.OutOfMemoryError:
                return False  # no verdict; the next call asks again
            self._trusted[z.device, variant] = trusted
        return trusted


def verdict(kernels: ModuleType, variant: Variant, device: torch.device) -> str | None:
    """The kept verdict on a variant, or that of a check now, which is then kept.

    Returns:
        None where the kernel may be used, else what is wrong with it, which is logged once.
    """
    file = _file(kernels, device)
    kept = _read(file)
    problem = kept[str(variant)] if str(variant) in kept else check(kernels, variant, device)
    if str(variant) not in kept:
        try:
            write_text(file, json.dumps({**_read(file), str(variant): problem}, indent=1))
        except InputError:  # a home that can't be written to: checked again in the next process
            logging.getLogger('ean_mmdet').debug('The verdict on %s is not kept in %s', variant, file)
    if problem is not None:
        logging.getLogger('ean_mmdet').warning(
            'EAN computes in plain PyTorch here, which is slower: its kernel (%s) %s on %s. Please report this line '
            'with what `python tools/doctor.py` prints.', variant, problem, device_name(device),
        )  # fmt: skip
    return problem


def check(kernels: ModuleType, variant: Variant, device: torch.device) -> str | None:
    """Compare a kernel with eager PyTorch on small maps.

    Returns:
        None where they agree to a few roundings, else what happened, as the end of a sentence.
    """
    try:
        with torch.no_grad():
            errors = [_error(kernels, variant, device, shape) for shape in _shapes(variant.channels_last, device)]
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # whatever a compiler or a driver raises
        lines = str(error).strip().splitlines() or ['no message']
        return f'fails ({type(error).__name__}: {lines[0][:200]})'
    worst = max(errors, key=lambda error: (error != error, error))
    return None if worst <= TOLERANCES[variant.dtype] else f'differs by {worst:.2g} of the largest value'


def device_name(device: torch.device) -> str:
    """The GPU's model, or ``'CPU'``."""
    return torch.cuda.get_device_name(device) if device.type == 'cuda' else device.type.upper()


def _shapes(channels_last: bool, device: torch.device) -> list[tuple[int, int, int, int]]:
    """Maps of planes that fit a tile, that are passed over, and that programs share."""
    units = torch.cuda.get_device_properties(device).multi_processor_count if device.type == 'cuda' else 4
    if channels_last:
        return [(2, 8, 9, 7), (1, 24, 40, 40), (units + 4, 8, 48, 48)]
    return [(2, 8, 9, 7), (1, units + 4 - units % 4, 96, 96), (1, 4, 192, 192)]


def _error(kernels: ModuleType, variant: Variant, device: torch.device, shape: tuple[int, int, int, int]) -> float:
    """The largest difference of any output, over that output's largest value."""
    generator = torch.Generator().manual_seed(0)
    layout = torch.channels_last if variant.channels_last else torch.contiguous_format

    def feature_map() -> Tensor:
        values = torch.randn(shape, generator=generator) + 0.3
        return values.to(device, variant.dtype).contiguous(memory_format=layout)

    def vector(size: int, low: float = -1.0) -> Tensor:
        return (torch.rand(size, generator=generator) * (1 - low) + low).to(device)

    z, residual, grad = feature_map(), feature_map(), feature_map()
    vectors = Vectors(vector(4), vector(4), vector(4), vector(4), 'l2')
    channels = shape[1]
    norm = BatchNorm(None, None, None, None, 1e-5, False)
    if variant.norm != 'none':
        norm = BatchNorm(vector(channels), vector(channels), vector(channels), vector(channels, 0.5), 1e-5, False)
    if variant.norm == 'training':
        norm = norm._replace(mean=None, var=None, training=True)
    forward = z, vectors, 1e-5, residual if variant.residual else None, variant.relu, norm
    expected = norm_gate_eager.forward(*forward)
    if variant.direction == 'forward':
        return _difference(kernels.forward(*forward), expected)
    y, moments, batch = expected
    if batch is not None:
        norm = norm._replace(mean=batch[0], var=batch[1])
    results = []
    for implementation in (kernels, norm_gate_eager):
        dresidual = torch.empty_like(z) if variant.residual else None
        dz, dvectors, dnorm = implementation.backward(
            grad, z, y if variant.relu else None, moments, vectors, 1e-5, dresidual, norm
        )
        results.append((dz, *dvectors, dnorm, dresidual))
    return _difference(*results)


def _difference(actual: tuple, expected: tuple) -> float:
    errors = [
        (a.float() - e.float()).abs().max() / e.float().abs().max().clamp_min(1e-6)
        for a, e in zip(actual, expected)
        if e is not None
    ]
    return torch.stack(errors).max().item()


@cache
def _file(kernels: ModuleType, device: torch.device) -> Path:
    """File that keeps the verdicts on a device's kernels."""
    folder = Path(__file__).parent
    sources = sorted(path for path in folder.rglob('*') if path.suffix in ('.py', '.cpp', '.h'))
    versions = [device_name(device), torch.__version__]
    if device.type == 'cuda':
        import triton

        versions += [str(torch.cuda.get_device_capability(device)), triton.__version__, str(torch.version.cuda)]
    digest = hashlib.sha256('|'.join(versions).encode())
    for source in sources:
        digest.update(source.read_bytes())
    return cache_folder() / 'self_check' / f'{kernels.__name__.rpartition(".")[2]}_{digest.hexdigest()[:16]}.json'


def _read(file: Path) -> dict[str, str | None]:
    try:
        content = json.loads(file.read_text(encoding='utf-8'))
    except (OSError, ValueError):  # none yet, or one that broke
        return {}
    return content if isinstance(content, dict) else {}
