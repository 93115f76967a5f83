"""The gate in compiled C++, for float32, float16 and bfloat16 on a CPU: ``csrc/``, which ``setup.py`` builds.

The library takes pointers, so it is called through ctypes and knows nothing of Python or of PyTorch's tensors: of
PyTorch it has one function of the stable C interface, which shares out the work to the threads.
"""

from __future__ import annotations

import ctypes
from functools import cache
from pathlib import Path
from struct import Struct
from typing import Any

import torch
from torch import Tensor

from .batch_norm import BatchNorm
from .fold import WEIGHT_NORMS, Vectors

IN_PLACE = True
LIBRARY = Path(__file__).with_name('_gate.so')
TYPES = {torch.float32: 0, torch.bfloat16: 1, torch.float16: 2}

# The structs of ``csrc/gate.h``: of eight bytes each integers (q), pointers (P) and floating-point numbers (d).
_CALL = '5q 4P 2q d 4P d q'
_FORWARD = Struct(_CALL + '2P q 2P')
_BACKWARD = Struct(_CALL + '11P')


@cache
def _load() -> Any:
    """The library, a ``ctypes.CDLL``, or why there is none, a ``str``."""
    if not LIBRARY.is_file():
        return f'{LIBRARY.name} was not built when it was installed'
    try:
        library = ctypes.CDLL(str(LIBRARY))
    except OSError as error:
        return f'{LIBRARY.name} does not go with PyTorch {torch.__version__} ({error})'
    if not hasattr(library, 'ean_call_bytes') or [library.ean_call_bytes(i) for i in (0, 1)] != [
        _FORWARD.size,
        _BACKWARD.size,
    ]:
        return f'{LIBRARY.name} is of another version; in a clone, python setup.py build_ext --inplace builds it again'
    library.ean_forward.argtypes = library.ean_backward.argtypes = [ctypes.c_char_p]
    library.ean_kernels.restype = ctypes.c_char_p
    return library


@cache
def missing() -> str | None:
    """Why the compiled kernels can't be had; None if they can."""
    library = _load()
    return library if isinstance(library, str) else None


def kernels() -> str:
    """The set of kernels that this processor runs: ``'default'``, ``'avx2'`` or ``'avx512'``."""
    return _load().ean_kernels().decode()


def forward(
    z: Tensor,
    vectors: Vectors,
    eps: float,
    residual: Tensor | None,
    relu: bool,
    norm: BatchNorm,
    out: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor | None]:
    """As :func:`.norm_gate_eager.forward`, on maps that are contiguous or channels_last; ``out`` may be ``z``."""
    y = torch.empty_like(z) if out is None else out
    samples, channels = z.shape[:2]
    moments, batch = vectors.alpha.new_empty(2, samples, channels), None
    if norm.training:
        batch = vectors.alpha.new_empty(2, channels)
        norm = norm._replace(mean=batch[0], var=batch[1])
    error = _load().ean_forward(
        _FORWARD.pack(
            *_call(z, vectors, eps, norm), z.data_ptr(), _pointer(residual), relu, y.data_ptr(), moments.data_ptr()
        )
    )
    _check(error)
    return y, moments, batch


def backward(
    grad: Tensor,
    z: Tensor,
    y: Tensor | None,
    moments: Tensor,
    vectors: Vectors,
    eps: float,
    dresidual: Tensor | None,
    norm: BatchNorm,
) -> tuple[Tensor, tuple[Tensor | None, ...], Tensor | None]:
    """As :func:`.norm_gate_eager.backward`, on maps of one layout, contiguous or channels_last."""
    dz = torch.empty_like(z)
    dvectors = tuple(None if v is None else torch.empty_like(v) for v in vectors[:4])
    dnorm = vectors.alpha.new_empty(2, z.shape[1]) if norm.present else None
    error = _load().ean_backward(
        _BACKWARD.pack(
            *_call(z, vectors, eps, norm), grad.data_ptr(), z.data_ptr(), _pointer(y), moments.data_ptr(),
            dz.data_ptr(), _pointer(dresidual), *map(_pointer, dvectors), _pointer(dnorm),
        )
    )  # fmt: skip
    _check(error)
    return dz, dvectors, dnorm


def _call(z: Tensor, vectors: Vectors, eps: float, norm: BatchNorm) -> tuple[float, ...]:
    samples, channels, height, width = z.shape
    pixels = height * width
    # A map of one pixel is both; its channels fill vectors, its pixels don't.
    channels_last = pixels == 1 or not z.is_contiguous()
    weight, bias, alpha, delta, weight_norm = vectors
    norm_weight, norm_bias, mean, var, norm_eps, training = norm
    return (
        TYPES[z.dtype], samples, channels, pixels, channels_last,
        _pointer(weight), _pointer(bias), alpha.data_ptr(), delta.data_ptr(),
        alpha.numel(), WEIGHT_NORMS.index(weight_norm), eps,
        _pointer(norm_weight), _pointer(norm_bias), _pointer(mean), _pointer(var), norm_eps, training,
    )  # fmt: skip


def _pointer(tensor: Tensor | None) -> int:
    return 0 if tensor is None else tensor.data_ptr()


def _check(error: int) -> None:
    if error:
        raise RuntimeError(f'the compiled kernels of EAN failed with error {error} of PyTorch')
