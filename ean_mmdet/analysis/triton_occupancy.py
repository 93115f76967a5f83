"""What the compiler says of the Triton kernels, on any machine: registers, spills and occupancy."""

from __future__ import annotations

import re
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import triton
from triton.backends.nvidia import compiler as nvidia

from ..ops import norm_gate_triton_kernels as kernels
from ..ops.norm_gate_triton_plan import make_plan

POINTERS = {torch.float32: '*fp32', torch.float16: '*fp16', torch.bfloat16: '*bf16'}
MAPS = ('z', 'y', 'residual', 'grad', 'sign', 'dz', 'dresidual')
# Of a multiprocessor: threads, registers, programs, and bytes of shared memory by compute capability.
THREADS, REGISTERS, PROGRAMS = 2048, 65536, 32
SHARED = {80: 163 * 1024, 90: 227 * 1024}
PROGRAMS_OF_DEVICE = 264  # two on every multiprocessor of an H100


@dataclass(frozen=True)
class Compiled:
    """A kernel compiled for a map of one shape.

    Attributes:
        name: What the kernel is called.
        ptx: Its code.
        registers: Registers a thread.
        spilled: Bytes of registers that went into memory.
        threads: Threads of a program.
        programs: Programs that fit a multiprocessor at once.
    """

    name: str
    ptx: str
    registers: int
    spilled: int
    threads: int
    programs: int

    @property
    def occupancy(self) -> float:
        """Threads at work over those that a multiprocessor can have."""
        return self.programs * self.threads / THREADS


def missing() -> str | None:
    """Why the kernels can't be compiled without a GPU here; None if they can."""
    if tuple(map(int, triton.__version__.split('.')[:2])) < (3, 6):  # the compiler's arguments were others
        return f'needs Triton 3.6 (PyTorch 2.10) or later; this is {triton.__version__}'
    return None


def compile_kernels(
    capability: int, shape: tuple[int, int, int, int], dtype: torch.dtype, channels_last: bool
) -> list[Compiled]:
    """Compile every kernel of a map behind a batch norm, with residual and ReLU, down to machine code.

    Args:
        capability: Compute capability, 80 or 90.
        shape: (N, C, H, W).
        dtype: The map's type.
        channels_last: The map's layout.
    """
    compiled = []
    for maps in (1, 2):
        plan = make_plan(torch.Size(shape), channels_last, maps, PROGRAMS_OF_DEVICE)
        tile = dict(CHANNELS_LAST=channels_last, PLANES=plan.planes, PIXELS=plan.pixels, ALIGN=plan.align)
        whole = dict(NORM=True, WHOLE=plan.whole)
        chosen: tuple[tuple[Any, dict], ...] = (
            (kernels.forward_kernel, dict(whole, RELU=True)),
            (kernels.moments_kernel, {}),
            (kernels.gate_kernel, dict(NORM=True, RELU=True)),
        )
        if maps == 2:
            chosen = (
                (kernels.backward_kernel, whole),
                (kernels.sums_kernel, dict(NORM=True)),
                (kernels.gradient_kernel, dict(NORM=True, TRAINING=True)),
            )
        compiled += [_compile(capability, kernel, dtype, plan.warps, {**tile, **more}) for kernel, more in chosen]
    return compiled


def _compile(capability: int, kernel, dtype: torch.dtype, warps: int, constants: dict) -> Compiled:
    names = kernel.arg_names
    signature = {
        name: 'constexpr' if name in constants else POINTERS[dtype] if name in MAPS
        else 'i32' if name in kernels.SIZES else 'fp32' if name.endswith('eps') else '*fp32'
        for name in names
    }  # fmt: skip
    values = {(names.index(name),): value for name, value in constants.items()}
    aligned = {(i,): [['tt.divisibility', 16]] for i, name in enumerate(names) if signature[name].startswith('*')}
    source = triton.compiler.ASTSource(kernel, signature, values, aligned)
    target = triton.backends.compiler.GPUTarget('cuda', capability, 32)
    code = triton.compile(source, target=target, options={'num_warps': warps})
    registers, spilled = _ptxas(code.asm['ptx'], capability)
    threads = 32 * warps
    by_registers = REGISTERS // (-(-registers // 8) * 8 * threads)
    programs = min(by_registers, THREADS // threads, SHARED[capability] // max(code.metadata.shared, 1), PROGRAMS)
    return Compiled(kernel.__name__, code.asm['ptx'], registers, spilled, threads, programs)


def _ptxas(ptx: str, capability: int) -> tuple[int, int]:
    """Registers, and bytes spilled, as NVIDIA's assembler reports them."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, 'kernel.ptx')
        file.write_text(ptx)
        name = f'sm_{capability}{"a" if capability == 90 else ""}'
        command = [nvidia.get_ptxas(capability).path, '-v', f'--gpu-name={name}', str(file), '-o', '/dev/null']
        output = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    spills = re.findall(r'(\d+) bytes spill (?:stores|loads)', output)
    (registers,) = re.findall(r'Used (\d+) registers', output)
    return int(registers), sum(map(int, spills))
