"""Properties of the Triton kernels that any machine can tell: registers, spills, occupancy, and memory moved."""

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
# Of an H100: two programs on every multiprocessor, and three quarters of the L2 cache.
PROGRAMS_OF_DEVICE = 264
CACHED_BYTES = (50 << 20) * 3 // 4


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
        plan = make_plan(torch.Size(shape), channels_last, maps, PROGRAMS_OF_DEVICE, CACHED_BYTES // dtype.itemsize)
        tile = dict(CHANNELS_LAST=channels_last, PLANES=plan.planes, PIXELS=plan.pixels, ALIGN=plan.align)
        whole = dict(NORM=True, WHOLE=plan.whole, TURNS=plan.turns)
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


@dataclass(frozen=True)
class Traffic:
    """Bytes between an H100's memory and its cache, in maps of the shape.

    Attributes:
        name: The pass.
        least: Every map read or written once.
        planned: By the plan, where a second read finds in the cache what fits there.
        plain: What one kernel for batch norm, addition and ReLU, without EAN, moves by the same rule.
    """

    name: str
    least: float
    planned: float
    plain: float


def traffic(shape: tuple[int, int, int, int], dtype: torch.dtype, channels_last: bool) -> list[Traffic]:
    """Estimate what the passes of a map behind a batch norm, with residual and ReLU, move.

    Args:
        shape: (N, C, H, W).
        dtype: The map's type.
        channels_last: The map's layout.
    """
    size = torch.Size(shape)
    pixels = shape[2] * shape[3]
    passes = []
    # forward z is read for the sums and again, with the residual, for the result; backward the gradient, z and the
    # output are read for the sums and again, and two gradients are written
    for name, maps, again, others in (('forward', 1, 1, 2), ('backward', 2, 3, 2)):
        plan = make_plan(size, channels_last, maps, PROGRAMS_OF_DEVICE, CACHED_BYTES // dtype.itemsize)
        least = again + others
        alone = plan.splits == 1
        under_way = (plan.programs * plan.planes * pixels if alone else size.numel()) * again * dtype.itemsize
        second = 0.0 if plan.whole and alone else again * _missed(under_way)
        passes.append(Traffic(name, least, least + second, least))
        both = least + again * _missed(size.numel() * again * dtype.itemsize)
        passes.append(Traffic(f'{name}, training', least, both, both))
    return passes


def _missed(under_way: int) -> float:
    """The share of a second read that isn't in the cache any more."""
    return max(0.0, 1 - CACHED_BYTES / under_way)
