"""Build an mmcv wheel from its source distribution, the fast way.

mmdet 3.3.0 needs mmcv < 2.2, and mmcv 2.1.0 has no wheel for current PyTorch. Building it as it comes
takes a quarter of an hour on two cores, most of it spent reading PyTorch's headers once per file and
writing debug information. This precompiles those headers once and leaves the debug information out.

The wheel goes into a cache keyed by Python, PyTorch and mmcv version; the folder that holds it is
printed as the last line of the standard output, everything else goes to the standard error.
"""

import argparse
import os
import platform
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
import time
from pathlib import Path

# The very same flags for the precompiled header and for every file that includes it: the compiler
# takes a precompiled header only then.
CXX_FLAGS = ['-DNDEBUG', '-g0', '-O2', '-fwrapv', '-fPIC']
EXTENSION_FLAGS = ['-DTORCH_API_INCLUDE_EXTENSION_H', '-DTORCH_EXTENSION_NAME=_ext']
HEADER = '#include <torch/types.h>\n#include <vector>\n'
NINJA_STEP = re.compile(r'^\s*\[(\d+)/(\d+)\]')


def say(message: str, end: str = '\n') -> None:
    print(message, end=end, file=sys.stderr, flush=True)


def default_cache() -> Path:
    """The folder outside the repository that keeps built wheels: ``$EAN_CACHE`` or the user's cache folder."""
    if 'EAN_CACHE' in os.environ:
        return Path(os.environ['EAN_CACHE'])
    return Path(os.environ.get('XDG_CACHE_HOME', Path.home() / '.cache')) / 'ean_mmdet'


def with_cuda() -> bool:
    """Tell whether the CUDA operators can be built: a GPU (or ``FORCE_CUDA=1``) and a CUDA compiler."""
    import torch
    from torch.utils.cpp_extension import CUDA_HOME

    wanted = torch.cuda.is_available() or os.environ.get('FORCE_CUDA') == '1'
    if wanted and (CUDA_HOME is None or not Path(CUDA_HOME, 'bin', 'nvcc').exists()):
        say('! A GPU is here but no CUDA compiler (nvcc): building mmcv without CUDA operators. Detectors will')
        say('  fail in NMS and RoIAlign on the GPU. Install the CUDA toolkit, set CUDA_HOME, and run again.')
        return False
    return wanted


def cpp_standard() -> str:
    """The compiler's option for the C++ standard that PyTorch's headers ask for."""
    import torch

    return '-std=c++20' if tuple(map(int, torch.__version__.split('.')[:2])) >= (2, 14) else '-std=c++17'


def precompile_header(folder: Path, compiler: str) -> list[str]:
    """Precompile PyTorch's headers into ``folder``; the flags that make a build use them."""
    from torch.utils.cpp_extension import include_paths

    version = subprocess.run([compiler, '--version'], capture_output=True, text=True, check=True).stdout
    if 'clang' in version.lower():
        say('  (clang: building without a precompiled header, which is slower)')
        return CXX_FLAGS
    header = folder / 'p.hpp'
    header.write_text(HEADER)
    includes = [f'-I{path}' for path in [*include_paths(), sysconfig.get_paths()['include']]]
    command = [compiler, *CXX_FLAGS, cpp_standard(), *EXTENSION_FLAGS, *includes, '-x', 'c++-header', str(header), '-o']
    subprocess.run([*command, f'{header}.gch'], check=True)
    return [*CXX_FLAGS, '-include', str(header), '-Winvalid-pch']


def run_build(command: list[str], folder: Path, env: dict, log: Path) -> int:
    """Run ``command`` in ``folder``, log its output, and show how many files are compiled."""
    start, shown = time.monotonic(), -1
    with log.open('w') as log_file:
        process = subprocess.Popen(
            command, cwd=folder, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        for line in process.stdout:
            log_file.write(line)
            step = NINJA_STEP.match(line)
            if not step:
                continue
            done, total = map(int, step.groups())
            percent = 100 * done // total
            if sys.stderr.isatty() or percent // 10 > shown // 10:
                shown = percent
                end = '\r' if sys.stderr.isatty() else '\n'
                say(f'  compiled {done:3d} of {total} files, {time.monotonic() - start:4.0f} s', end=end)
        say('')
        return process.wait()


def build(package: str, version: str, wheels: Path) -> None:
    """Build ``package``, mmcv or its fork, in ``version`` into the folder ``wheels``."""
    name = package.replace('-', '_')
    compiler = shutil.which(os.environ.get('CXX', 'c++'))
    if compiler is None:
        sys.exit(
            'error: no C++ compiler, and mmcv has to be compiled. Install one (Debian, Ubuntu: apt-get install g++;'
            ' conda: conda install -c conda-forge cxx-compiler), or give a ready wheel in EAN_MMCV.'
        )
    cuda = with_cuda()
    wheels.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix='ean_mmcv_') as temporary:
        work = Path(temporary)
        pip = [sys.executable, '-m', 'pip']
        say(f'- Fetching {package} {version} (source)')
        fetch = ['download', '-q', '--no-deps', '--no-binary', ':all:', '--no-build-isolation', f'{package}=={version}']
        if subprocess.run([*pip, *fetch, '-d', str(work)], stdout=sys.stderr).returncode:
            sys.exit(f'error: could not download the source of {package} {version}. Is the package index reachable?')
        with tarfile.open(next(work.glob(f'{name}-*.tar.gz'))) as archive:
            archive.extractall(work, **({'filter': 'data'} if hasattr(tarfile, 'data_filter') else {}))
        source = next(path for path in work.glob(f'{name}-*') if path.is_dir())

        # mmcv names the standard of the PyTorch of its day.
        setup = source / 'setup.py'
        setup.write_text(re.sub(r'-std=c\+\+\d\d', cpp_standard(), setup.read_text()))
        say('- Precompiling the PyTorch headers')
        flags = precompile_header(work, compiler)
        jobs = os.environ.get('MAX_JOBS', str(os.cpu_count()))
        env = {
            **os.environ,
            'CFLAGS': ' '.join(flags),
            'MAX_JOBS': jobs,
            'MMCV_WITH_OPS': '1',
            'FORCE_CUDA': '1' if cuda else '0',
            # ninja, which pip installs beside the interpreter
            'PATH': os.pathsep.join([str(Path(sys.executable).parent), os.environ['PATH']]),
        }
        if not cuda:
            env['CUDA_VISIBLE_DEVICES'] = ''
        say(f'- Compiling {package} {version} {"with" if cuda else "without"} CUDA operators, {jobs} files at a time')
        log = wheels / 'build.log'
        command = [*pip, 'wheel', '-v', '--no-deps', '--no-build-isolation', '-w', str(work / 'wheel'), str(source)]
        if run_build(command, work, env, log):
            say(''.join(line for line in log.read_text().splitlines(keepends=True) if 'error' in line.lower()))
            sys.exit(f'error: {package} did not build; the whole log is in {log}')
        built = next((work / 'wheel').glob(f'{name}-*.whl'))
        # A wheel appears in the cache whole or not at all.
        partial = wheels / f'.{built.name}'
        shutil.copy2(built, partial)
        partial.replace(wheels / built.name)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__.split('\n\n')[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument('--package', default='mmcv', choices=['mmcv', 'onedl-mmcv'], help='mmcv or its fork by OneDL')
    parser.add_argument('--version', default='2.1.0', help='its version')
    parser.add_argument('--cache', type=Path, default=default_cache(), help='folder that keeps built wheels')
    args = parser.parse_args()

    import torch

    device = f'cu{torch.version.cuda}' if with_cuda() else 'cpu'
    key = f'py{platform.python_version_tuple()[0]}{platform.python_version_tuple()[1]}-torch{torch.__version__}'
    wheels = args.cache / 'wheels' / f'{key}-{device}-{platform.machine()}'
    ready = sorted(wheels.glob(f'{args.package.replace("-", "_")}-{args.version}-*.whl'))
    if ready:
        say(f'- {args.package} {args.version}: using the wheel built earlier, {ready[0]}')
    else:
        start = time.monotonic()
        build(args.package, args.version, wheels)
        say(f'- {args.package} {args.version} built in {time.monotonic() - start:.0f} s; the wheel is kept in {wheels}')
    print(wheels)


if __name__ == '__main__':
    main()
