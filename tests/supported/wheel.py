"""Check an installed wheel with PyTorch alone: the compiled gate is there, computes the formula, and is fast.

    python tests/supported/wheel.py

cibuildwheel runs it on each wheel of a release; here it shows that one wheel serves several Pythons and PyTorches.
"""

import platform
import statistics
import sys
import time
from collections.abc import Callable

import torch

import ean_mmdet
from ean_mmdet.attention import EAN
from ean_mmdet.ops import backends, norm_gate_cpp


def seconds(run: Callable[[], object]) -> float:
    run()
    times = []
    for _ in range(9):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def main() -> None:
    if norm_gate_cpp.missing() is not None:
        sys.exit(f'error: no compiled kernels: {norm_gate_cpp.missing()}')
    torch.manual_seed(0)
    gate = EAN(256, groups=64)
    for parameter in gate.parameters():
        torch.nn.init.normal_(parameter, 0.2)
    x = torch.randn(2, 256, 100, 152)
    results, times = [], []
    for backend in ('cpp', 'eager'):
        backends.FORCED = backend
        with torch.no_grad():
            results.append(gate(x))
            times.append(seconds(lambda: gate(x)))
    torch.testing.assert_close(*results, rtol=1e-4, atol=1e-5)
    print(
        f'Python {platform.python_version()}, PyTorch {torch.__version__}, {ean_mmdet.__file__}: kernels '
        f'{norm_gate_cpp.kernels()}, {times[0] * 1e3:.1f} ms against {times[1] * 1e3:.1f} ms in plain PyTorch'
    )


if __name__ == '__main__':
    main()
