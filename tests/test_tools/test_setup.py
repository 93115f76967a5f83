"""What tools/setup.sh says where it can't go on. A whole set-up is what .ci/run does."""

import os
import subprocess
import sys

import pytest

from tests.conftest import ROOT


def setup(tmp_path, **env):
    """Run setup.sh for an environment that isn't there yet."""
    return subprocess.run(
        ['bash', str(ROOT / 'tools/setup.sh')],
        env={**os.environ, 'EAN_VENV': str(tmp_path / 'venv'), 'EAN_CACHE': str(tmp_path / 'cache'), **env},
        capture_output=True,
        text=True,
        timeout=300,
    )


def fake(folder, name, script):
    """A command of this name, first on the PATH."""
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f'#!/bin/sh\n{script}\n')
    (folder / name).chmod(0o755)
    return f'{folder}{os.pathsep}{os.environ["PATH"]}'


def test_unsupported_python(tmp_path):
    fake(tmp_path / 'bin', 'python3.13', 'exit 1')
    result = setup(tmp_path, PYTHON=str(tmp_path / 'bin/python3.13'))
    assert result.returncode == 1
    assert 'error: this needs Python 3.10, 3.11 or 3.12' in result.stderr and 'apt-get install' in result.stderr
    assert not (tmp_path / 'venv').exists()


def test_no_disk_space(tmp_path):
    rows = 'echo "Filesystem 1024-blocks Used Available"; echo "/dev/vda 100000000 98000000 2097152 98% /"'
    result = setup(tmp_path, PATH=fake(tmp_path / 'bin', 'df', rows))
    assert result.returncode == 1
    assert 'has 2 GiB free and this needs 9' in result.stderr and 'set EAN_VENV' in result.stderr
    assert not (tmp_path / 'venv').exists()


def test_no_network(tmp_path):
    # nothing listens on this port of this machine
    pip = dict(PIP_CONFIG_FILE=os.devnull, PIP_INDEX_URL='http://127.0.0.1:9/simple', PIP_RETRIES='0')
    pip.update(PIP_FIND_LINKS='', PIP_EXTRA_INDEX_URL='')
    result = setup(tmp_path, **pip)
    assert result.returncode == 1
    assert 'error: pip could not install the above. No network' in result.stderr
    assert not (tmp_path / 'venv/.ean_mmdet').exists()


def test_no_compiler(tmp_path):
    result = subprocess.run(
        [sys.executable, '-W', 'ignore', str(ROOT / 'tools/build_mmcv.py')],
        env={**os.environ, 'EAN_CACHE': str(tmp_path), 'CXX': 'no-such-compiler'},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert result.returncode == 1
    assert 'error: no C++ compiler' in result.stderr and 'apt-get install g++' in result.stderr


def test_missing_wheel_of_ones_own(tmp_path, monkeypatch):
    venv = tmp_path / 'venv'
    (venv / 'bin').mkdir(parents=True)
    (venv / 'bin/python').symlink_to(sys.executable)
    torch_lines = [line for line in (ROOT / 'requirements.txt').read_text().splitlines() if line.startswith('torch')]
    (venv / '.ean_mmdet_torch').write_text('\n'.join(torch_lines) + '\n')
    result = setup(tmp_path, EAN_MMCV_WHEEL='/nowhere/mmcv.whl')
    assert result.returncode == 1 and 'EAN_MMCV_WHEEL=/nowhere/mmcv.whl is no file' in result.stderr


@pytest.mark.parametrize('tool', ['setup.sh', 'quickstart.sh'])
def test_help(tool, run_tool):
    assert f'bash tools/{tool}' in run_tool(tool, '--help').stdout


def test_without_a_compiler_the_kernels_are_left_out_and_a_line_says_so(tmp_path):
    command = [
        sys.executable,
        '-W',
        'ignore',
        'setup.py',
        'build_ext',
        '--build-lib',
        tmp_path,
        '--build-temp',
        tmp_path,
    ]
    environment = {**os.environ, 'CXX': '/nowhere/c++'}
    result = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert result.returncode == 0
    assert 'no compiled kernels for CPUs, plain PyTorch instead' in result.stderr and '/nowhere/c++' in result.stderr
    assert not list(tmp_path.rglob('*.so'))
