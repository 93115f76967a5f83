"""The compiled kernels for CPUs, an optional part: without them EAN computes in plain PyTorch; configs and tools.

Everything else about the package is in pyproject.toml. The library is built against the PyTorch of the environment that
the package goes into, also where pip builds in an isolated environment of its own, and needs of PyTorch its vector
headers and its stable interface (PyTorch 2.10 and later).
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import setuptools
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.command.build_py import build_py

try:
    from setuptools.command.bdist_wheel import bdist_wheel
except ImportError:
    sys.exit(
        f"error: setuptools {setuptools.__version__} is too old to build ean_mmdet: pip install 'setuptools>=70.1'"
    )

SOURCES = Path('ean_mmdet', 'ops', 'csrc')
LOWEST_TORCH = (2, 10)
LOWEST_ABI = f'0x{LOWEST_TORCH[0]:02x}{LOWEST_TORCH[1]:02x}000000000000ULL'  # of its stable interface for C++
FOLDERS = ('configs', 'tools')
# Without -ffp-contract=off the compiler would round a sum differently from one way to write it to another.
FLAGS = [
    '-std=c++20',
    '-O3',
    '-g0',
    '-fno-math-errno',
    '-fno-trapping-math',
    '-ffp-contract=off',
    '-fvisibility=hidden',
    '-w',
]
# For every set of kernels: its name in gate.h, PyTorch's name for the processor, and the compiler's options.
KERNELS = {'default': ('kDefault', 'DEFAULT', [])}
if platform.machine().lower() in ('x86_64', 'amd64'):
    KERNELS['avx2'] = ('kAvx2', 'AVX2', ['-mavx2', '-mfma', '-mf16c'])
    wide = [f'-mavx512{part}' for part in ('f', 'bw', 'vl', 'dq')]
    KERNELS['avx512'] = ('kAvx512', 'AVX512', [*wide, '-mfma', '-mf16c'])


class BuildGate(build_ext):
    """Compile ``kernels.cpp`` once for each set of kernels, and link all into ``ean_mmdet/ops/_gate.so``."""

    def get_ext_filename(self, fullname: str) -> str:
        # No Python in it, so no Python's name on it.
        return str(Path(*fullname.split('.')).with_suffix('.so'))

    def build_extension(self, ext: Extension) -> None:
        if sys.platform == 'win32':
            raise OSError('the compiled kernels are for Linux and macOS')
        torch = find_torch()
        ext.include_dirs, ext.library_dirs = [str(torch / 'include')], [str(torch / 'lib')]

        def compile_kernels(name: str) -> list[str]:
            variable, capability, options = KERNELS[name]
            macros = [('EAN_KERNELS', variable), ('EAN_KERNELS_NAME', f'"{name}"')]
            macros += [('CPU_CAPABILITY', capability), (f'CPU_CAPABILITY_{capability}', None)]
            return self.compiler.compile(
                [str(SOURCES / 'kernels.cpp')], str(Path(self.build_temp, name)), macros, ext.include_dirs,
                extra_postargs=[*FLAGS, *options], depends=ext.depends,
            )  # fmt: skip

        with ThreadPoolExecutor() as pool:  # that waits for compilers
            ext.extra_objects = [path for objects in pool.map(compile_kernels, KERNELS) for path in objects]
        super().build_extension(ext)

    def get_export_symbols(self, ext: Extension) -> list[str]:
        return []  # its functions say it themselves; of Python's there is none

    def run(self) -> None:
        try:
            super().run()
        except Exception as error:
            # `optional` of setuptools knows its own compilers' errors alone, and says them where pip shows none.
            print(f'ean_mmdet: no compiled kernels for CPUs, plain PyTorch instead: {error}', file=sys.stderr)

    def copy_extensions_to_source(self) -> None:
        if all(Path(self.build_lib, self.get_ext_filename(ext.name)).is_file() for ext in self.extensions):
            super().copy_extensions_to_source()


class BuildPython(build_py):
    """Put configs and tools into the package, in ``.mim``, where mim looks for them."""

    def run(self) -> None:
        super().run()
        if self.editable_mode:  # links, so that a changed config is a changed config
            folder = Path('ean_mmdet', '.mim')
            folder.mkdir(exist_ok=True)
            for name in (*FOLDERS, 'model-index.yml'):
                if not (folder / name).exists():
                    (folder / name).symlink_to(Path('..', '..', name))
            return
        folder = Path(self.build_lib, 'ean_mmdet', '.mim')
        for name in FOLDERS:
            shutil.copytree(name, folder / name, dirs_exist_ok=True, ignore=shutil.ignore_patterns('__pycache__'))
        shutil.copy('model-index.yml', folder)


class BuildWheel(bdist_wheel):
    """Name the wheel after its platform: the library knows nothing of Python, and of PyTorch a stable interface."""

    def get_tag(self) -> tuple[str, str, str]:
        compiled = any(Path(self.bdist_dir or '').rglob('_gate.so'))
        return 'py3', 'none', super().get_tag()[2] if compiled else 'any'


def find_torch() -> Path:
    """The folder of the PyTorch that the package will run with.

    Raises:
        OSError: There is none, or one that is too old.
    """
    # pip's isolated build environments hide the environment's own packages by PYTHONPATH.
    environment = {key: value for key, value in os.environ.items() if key != 'PYTHONPATH'}
    code = 'import importlib.util as i; s = i.find_spec("torch"); print(*s.submodule_search_locations if s else "")'
    found = subprocess.run([sys.executable, '-c', code], env=environment, capture_output=True, text=True)
    if found.returncode or not found.stdout.strip():
        raise OSError('PyTorch is not installed')
    torch = Path(found.stdout.strip().splitlines()[-1])
    version = re.search(r"__version__ = '(\d+)\.(\d+)", (torch / 'version.py').read_text())
    if version is None or tuple(map(int, version.groups())) < LOWEST_TORCH:
        lowest = '.'.join(map(str, LOWEST_TORCH))
        raise OSError(f'PyTorch {version and ".".join(version.groups())} is older than {lowest}')
    return torch


GATE = Extension(
    'ean_mmdet.ops._gate',
    sources=[str(SOURCES / name) for name in ('library.cpp', 'operators.cpp')],
    define_macros=[('TORCH_TARGET_VERSION', LOWEST_ABI)],
    depends=[str(SOURCES / name) for name in ('gate.h', 'kernels.cpp')],
    libraries=['torch_cpu'],
    extra_compile_args=FLAGS,
    language='c++',
)

setup(
    ext_modules=[GATE],
    cmdclass={'build_ext': BuildGate, 'build_py': BuildPython, 'bdist_wheel': BuildWheel},
)
