"""The gate in compiled C++, for float32, float16 and bfloat16 on a CPU: ``csrc/``, which ``setup.py`` builds.

The library registers operators through PyTorch's stable interface: ``ean_mmdet::cpp_gate`` and ``cpp_gate_backward``,
which look at their arguments themselves, as between two convolutions Python finds its caches cold and a batch norm has
none of it, and ``cpp_gate_inference`` for the graphs of torch.compile.
"""

from __future__ import annotations

import ctypes
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .batch_norm import BatchNorm
from .dtypes import memory_format
from .fold import WEIGHT_NORMS, Vectors

IN_PLACE = True
INTERFACE = 2  # of the library, which says in ean_interface() what it has
LIBRARY = Path(__file__).with_name('_gate.so')
CODES = {name: i for i, name in enumerate(WEIGHT_NORMS)}


@cache
def _load() -> Any:
    """The library, a ``ctypes.CDLL``, or why there is none, a ``str``."""
    if not LIBRARY.is_file():
        return f'{LIBRARY.name} was not built when it was installed'
    try:
        library = ctypes.CDLL(str(LIBRARY))
    except OSError as error:
        return f'{LIBRARY.name} does not go with PyTorch {torch.__version__} ({error})'
    if not hasattr(library, 'ean_interface') or library.ean_interface() != INTERFACE:
        return f'{LIBRARY.name} is of another version; in a clone, python setup.py build_ext --inplace builds it again'
    if not hasattr(torch.ops.ean_mmdet, 'cpp_gate'):
        if library.ean_register():
            return f"{LIBRARY.name} can't register its operators with PyTorch {torch.__version__}"
        torch.library.register_fake('ean_mmdet::cpp_gate_inference', _fake_inference)
    library.ean_kernels.restype = ctypes.c_char_p
    return library


def _fake_inference(z: Tensor, *_: Any) -> Tensor:
    return torch.empty_like(z, memory_format=memory_format(z))


@cache
def missing() -> str | None:
    """Why the compiled kernels can't be had; None if they can."""
    library = _load()
    return library if isinstance(library, str) else None


def kernels() -> str:
    """The set of kernels that this processor runs: ``'default'``, ``'avx2'`` or ``'avx512'``."""
    return _load().ean_kernels().decode()


@cache
def operators() -> tuple[Any, Any]:
    """The library's forward and backward; operators.cpp says what they take. Each result is None where they can't."""
    _load()
    return torch.ops.ean_mmdet.cpp_gate.default, torch.ops.ean_mmdet.cpp_gate_backward.default


@torch.compiler.assume_constant_result
def serves_compilers() -> bool:
    """Tell whether the library's operator for graphs can be had."""
    return missing() is None


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
    *given, weight_norm = vectors
    y, moments, batch = operators()[0](
        z, *given, CODES[weight_norm], eps, *norm, 0.0, residual, relu, out is not None, True
    )
    assert y is not None  # looked at, and laid out
    if moments is None:  # small planes', which backward takes again; the operator has them always
        moments = vectors.alpha.new_zeros(2, *z.shape[:2])
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
    *given, weight_norm = vectors
    dz, *dvectors, dnorm = operators()[1](z, *given, CODES[weight_norm], eps, *norm, grad, y, moments, dresidual)
    assert dz is not None  # laid out
    return dz, tuple(dvectors), dnorm
