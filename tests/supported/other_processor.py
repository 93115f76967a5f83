"""Run the compiled kernels for another processor under qemu, and hold them to the formula in float64.

``python -m tests.supported.other_processor``, with Debian's ``g++-aarch64-linux-gnu`` and ``qemu-user-static``. Every
layout, type and kind of plane, behind a batch norm in evaluation and in training mode, with residual and ReLU.
"""

from __future__ import annotations

import argparse
import itertools
import subprocess
import tempfile
from pathlib import Path

import torch

from ean_mmdet.ops.fold import Vectors, fold
from tests.conftest import ROOT
from tests.reference import plain_batch_norm_gate
from tests.test_ops.test_norm_gate import FORMATS

TYPES = {torch.float32: 0, torch.bfloat16: 1, torch.float16: 2}  # as in gate.h

SHAPES = ((3, 24, 7, 5), (5, 24, 1, 1), (4, 24, 2, 2), (2, 24, 20, 23), (1, 8, 60, 66), (2, 70, 4, 4), (3, 40, 30, 31))
# as in setup.py
FLAGS = ['-std=c++20', '-O3', '-fno-math-errno', '-fno-trapping-math', '-ffp-contract=off', '-w', '-static']
TOLERANCES = {torch.float32: 2e-5, torch.bfloat16: 1.6e-2, torch.float16: 2e-3}
NAMES = ('y', 'z', 'weight', 'bias', 'alpha', 'delta', 'norm')


def build(compiler: str, folder: Path) -> Path:
    """Compile the kernels and the driver beside this file, statically."""
    sources, program = ROOT / 'ean_mmdet/ops/csrc', folder / 'gate'
    headers = Path(torch.__file__).with_name('include')
    command = [compiler, *FLAGS, f'-I{sources}', f'-I{headers}', '-DCPU_CAPABILITY=DEFAULT']
    files = [sources / 'kernels.cpp', sources / 'library.cpp', Path(__file__).with_suffix('.cpp')]
    subprocess.run([*command, '-DCPU_CAPABILITY_DEFAULT', *files, '-o', program], check=True)
    return program


def memory(tensor: torch.Tensor) -> bytes:
    """Return the bytes of a dense tensor as they lie."""
    flat = tensor.detach().as_strided((tensor.numel(),), (1,))
    return flat.view(torch.uint8).numpy().tobytes()


def case(shape, dtype, layout, training):
    """Return what the driver reads, the tensors that it should write, and the maps' strides."""
    channels, size = shape[1], shape[1] // 2
    z, residual, grad = (torch.randn(shape).to(dtype, memory_format=FORMATS[layout]) for _ in range(3))
    ean = [torch.randn(size) for _ in range(4)]
    norm = [torch.randn(channels) for _ in range(3)] + [torch.rand(channels) + 0.5]
    last = not z.is_contiguous() or shape[2:] == (1, 1)
    numbers = [TYPES[dtype], *shape[:2], shape[2] * shape[3], last, size, 1, training, z.element_size()]
    given = b''.join(map(memory, (torch.tensor(numbers), z, residual, grad, *ean, *norm)))
    exact = [t.double().requires_grad_() for t in (z, *ean, *norm[:2])]
    scale, shift = fold(Vectors(*exact[1:5], 'l2'), 1e-5)
    y = plain_batch_norm_gate(
        exact[0], norm[2].double(), norm[3].double(), scale, shift, *exact[5:], training, 0.1, residual.double(), True
    )
    gradients = torch.autograd.grad(y, exact, grad.double())
    return given, [y.detach(), *gradients[:5], torch.stack(gradients[5:])], z


def main() -> None:
    """Print a line for every kind of map, with the largest error; fail where one is too large."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--compiler', default='aarch64-linux-gnu-g++', help='(default: %(default)s)')
    parser.add_argument('--run', default='qemu-aarch64-static', help='what runs its programs (default: %(default)s)')
    arguments = parser.parse_args()
    torch.manual_seed(0)
    kinds = list(itertools.product(SHAPES, TOLERANCES, FORMATS, (False, True)))
    cases = [case(*kind) for kind in kinds]
    with tempfile.TemporaryDirectory() as folder:
        program = build(arguments.compiler, Path(folder))
        given = b''.join(given for given, _, _ in cases)
        output = subprocess.run([*arguments.run.split(), program], input=given, capture_output=True, check=True).stdout
    failed, at = 0, 0
    for (shape, dtype, layout, training), (_, expected, z) in zip(kinds, cases):
        errors, signs = {}, torch.zeros(())
        for i, (name, exact) in enumerate(zip(NAMES, expected)):
            kind = dtype if i < 2 else torch.float32
            count = exact.numel() * kind.itemsize
            flat = torch.frombuffer(bytearray(output[at : at + count]), dtype=kind)
            at += count
            mine = flat.as_strided(shape, z.stride()) if i < 2 else flat.view(exact.shape)
            off = (mine.double() - exact).abs()
            if name == 'y':
                signs = (mine > 0) != (exact > 0)
            if name == 'z':  # a value within a rounding of zero has either sign, and the ReLU's gradient with it
                off[signs] = 0
            errors[name] = (off.max() / max(exact.abs().max(), 1)).item()
        worst = max(errors, key=errors.__getitem__)
        tolerance = max(TOLERANCES[dtype], 1e-4 if shape[2:] == (1, 1) else 0)
        wrong = not all(error <= tolerance for error in errors.values())
        failed += wrong
        mode = 'training' if training else 'evaluation'
        print('×'.join(map(str, shape)), dtype, layout, mode, f'{worst}: {errors[worst]:.1e}', 'WRONG' if wrong else '')
    if failed or at != len(output):
        raise SystemExit(f'{failed} of {len(kinds)} are wrong; {len(output) - at} bytes too many')
    print(f'{len(kinds)} kinds of maps agree')


if __name__ == '__main__':
    main()
