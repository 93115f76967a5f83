"""Make the environment: .venv/ in the repository root (or $EAN_VENV) with everything in requirements.txt and this
package, editable, its kernels for CPUs compiled where a C++ compiler is. Done at once where it is up to date.

usage: python tools/setup.py [--test]

  --test      and what the tests need
The Python that runs it is the environment's; bash tools/setup.sh finds one.

Environment:
  EAN_VENV    where the environment goes (default: .venv)
  EAN_MMCV    mmcv's operators: 'lite' takes torchvision's, nothing is compiled (default); 'build' compiles mmcv, for
              operators that docs/mmcv_ops.md doesn't list; or the path of an mmcv wheel for this Python and PyTorch
  EAN_CACHE   where a built mmcv wheel is kept (default: ~/.cache/ean_mmdet)
pip's own variables (PIP_INDEX_URL, …) are honoured.
"""

# Any Python runs this far, to be told which one it takes.
from __future__ import annotations

import os
import shutil
import subprocess
import sys
import venv
import zlib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PYTHONS = ((3, 10), (3, 14))
NEEDED_GIB = 9
STATE = ('requirements*.txt', 'pyproject.toml', 'setup.py', 'ean_mmdet/ops/csrc/*', 'tools/setup.py')


def say(message: str) -> None:
    print(message, file=sys.stderr, flush=True)


def fail(message: str) -> None:
    sys.exit(f'error: {message}')


def environment() -> Path:
    return Path(os.environ.get('EAN_VENV') or ROOT / '.venv').absolute()


def python_of(folder: Path) -> Path:
    return folder / ('Scripts/python.exe' if os.name == 'nt' else 'bin/python')


def mmcv_kind() -> str:
    kind = os.environ.get('EAN_MMCV') or 'lite'
    if kind not in ('lite', 'build') and not Path(kind).is_file():
        fail(f"EAN_MMCV={kind} is neither 'lite' nor 'build' nor a file: give the path of an mmcv wheel")
    return kind


def requirements(name: str = 'requirements.txt') -> list[str]:
    lines = (ROOT / name).read_text(encoding='utf-8').splitlines()
    return [line for line in lines if line and not line.startswith('#')]


def state(kind: str) -> str:
    """Return what an up-to-date environment was made of."""
    checksum = 0
    for pattern in STATE:
        for path in sorted(ROOT.glob(pattern)):
            checksum = zlib.crc32(path.read_bytes(), checksum)
    return f'{ROOT} {kind} {checksum:08x}'


def read(path: Path) -> str:
    return path.read_text(encoding='utf-8') if path.is_file() else ''


def make(folder: Path) -> None:
    """An environment of the Python that runs this."""
    version = '.'.join(map(str, sys.version_info[:3]))
    lowest, newest = ('.'.join(map(str, python)) for python in PYTHONS)
    if not PYTHONS[0] <= sys.version_info[:2] <= PYTHONS[1]:
        fail(
            f'this needs Python {lowest} to {newest}, and {sys.executable} is {version}. Install one (Debian, Ubuntu: '
            'apt-get install python3.11 python3.11-venv; conda: conda create -n ean python=3.11) and run again with '
            'it: python3.11 tools/setup.py'
        )
    folder.parent.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder.parent).free // 2**30
    if free < NEEDED_GIB:
        fail(
            f'{folder.parent} has {free} GiB free and this needs {NEEDED_GIB} (PyTorch with CUDA alone takes 5). Make '
            'room, or set EAN_VENV to a folder on another disk.'
        )
    say(f'[1/3] Making an environment with Python {version} in {folder}')
    try:
        venv.create(folder, with_pip=True, symlinks=os.name != 'nt')
    except subprocess.CalledProcessError as error:
        fail(f'could not make an environment ({error}). Debian, Ubuntu: apt-get install python3-venv')


def install(python: Path, *arguments: str) -> None:
    """pip, with progress bars for a person and only warnings and errors for a log."""
    quiet = [] if sys.stderr.isatty() else ['-q']
    # What is imported is compiled then; the rest would take half of the time.
    command = [python, '-m', 'pip', '--disable-pip-version-check', 'install', '--no-compile', *quiet, *arguments]
    if subprocess.run(list(map(str, command)), cwd=ROOT).returncode:
        fail(
            'pip could not install the above. No network or a proxy in the way? Set PIP_INDEX_URL or PIP_PROXY to what '
            'reaches a Python package index, then run again: what is installed already stays.'
        )


def mmcv_requirement(python: Path, kind: str, pinned: str) -> str:
    """Return what pip is to install for ``pinned``, mmcv-lite's line of requirements.txt."""
    if kind == 'lite':
        return pinned
    if kind != 'build':
        return str(Path(kind).resolve())
    version = pinned.split('==')[1]
    install(python, 'ninja', 'psutil', 'wheel')
    command = [str(python), '-W', 'ignore', str(ROOT / 'tools/build_mmcv.py'), '--version', version]
    built = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if built.returncode:
        sys.exit(1)  # it has said why
    return str(next(Path(built.stdout.strip()).glob(f'mmcv-{version}-*.whl')))


def main() -> None:
    if any(argument in ('-h', '--help') for argument in sys.argv[1:]):
        print(__doc__.strip())
        return
    wanted = sys.argv[1:]
    if wanted not in ([], ['--test']):
        fail(f'tools/setup.py takes --test and no other argument, not {" ".join(wanted)}')
    folder, kind = environment(), mmcv_kind()
    python, now = python_of(folder), state(kind)
    done, tested = folder / '.ean_mmdet', folder / '.ean_mmdet_test'
    if read(done) == now and (not wanted or read(tested) == now):
        say(f'The environment in {folder} is up to date.')
        return
    if not python.exists():
        make(folder)

    lines = requirements()
    torch = [line for line in lines if line.startswith('torch')]
    if read(done) != now:
        with_torch = folder / '.ean_mmdet_torch'
        if read(with_torch).splitlines() != torch:
            say('[2/3] Installing PyTorch (3 GB to download)')
            install(python, *torch, *(line for line in lines if line.startswith('setuptools')))
            with_torch.write_text('\n'.join(torch), encoding='utf-8')
        say('[3/3] Installing the OpenMMLab libraries and this package')
        pinned = next(line for line in lines if line.startswith('mmcv-lite=='))
        mmcv = mmcv_requirement(python, kind, pinned)
        # Both have the folder mmcv, so that only one may be there.
        other = 'mmcv' if kind == 'lite' else 'mmcv-lite'
        subprocess.run([str(python), '-m', 'pip', 'uninstall', '-q', '-y', other], stderr=subprocess.DEVNULL)
        install(python, mmcv, *(line for line in lines if line != pinned))
        install(python, '--no-deps', *requirements('requirements-no-deps.txt'))
        install(python, '--no-deps', '--no-build-isolation', '-e', '.')
        check = [str(python), '-W', 'ignore', '-c', 'import ean_mmdet, mmcv.ops, mmdet, mmpretrain']
        if subprocess.run(check).returncode:
            fail(f'the libraries are installed but do not import. If {mmcv} is of another PyTorch, take another one.')
        done.write_text(now, encoding='utf-8')
    if wanted:
        say('Installing what the tests need')
        install(python, '-r', 'requirements-test.txt')
        tested.write_text(now, encoding='utf-8')
    activate = 'Scripts/activate' if os.name == 'nt' else 'bin/activate'
    say(f'The environment in {folder} is ready: source {folder / activate}')


if __name__ == '__main__':
    main()
