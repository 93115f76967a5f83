"""What tools/setup.sh says where it can't go on. A whole set-up is what .ci/run does."""

import os
import runpy
import shutil
import subprocess
import sys
from types import SimpleNamespace

import pytest

from tests.conftest import ROOT

pytestmark = pytest.mark.slow

SETUP = runpy.run_path(str(ROOT / 'tools/setup.py'))


def setup(tmp_path, *arguments, **env):
    """Run setup.sh for an environment that isn't there yet."""
    return subprocess.run(
        ['bash', str(ROOT / 'tools/setup.sh'), *arguments],
        env={**os.environ, 'EAN_VENV': str(tmp_path / 'venv'), 'EAN_CACHE': str(tmp_path / 'cache'), **env},
        capture_output=True,
        text=True,
        timeout=300,
    )


def test_unsupported_python(tmp_path):
    (tmp_path / 'python3.9').write_text('#!/bin/sh\nexit 1\n')
    (tmp_path / 'python3.9').chmod(0o755)
    result = setup(tmp_path, PYTHON=str(tmp_path / 'python3.9'))
    assert result.returncode == 1
    assert 'error: this needs Python 3.10 to 3.14, and PYTHON=' in result.stderr and 'apt-get install' in result.stderr
    assert not (tmp_path / 'venv').exists()


@pytest.mark.parametrize('version', [(3, 9, 1), (3, 15, 0)])
def test_unsupported_python_without_bash(version, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, 'version_info', version)
    with pytest.raises(SystemExit, match=r'this needs Python 3\.10 to 3\.14, and .* is 3\.\d+\.\d\. Install one'):
        SETUP['make'](tmp_path / 'venv')
    assert not (tmp_path / 'venv').exists()


def test_no_disk_space(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, 'disk_usage', lambda path: SimpleNamespace(free=2 * 2**30))
    with pytest.raises(SystemExit, match=r'has 2 GiB free and this needs 9.*set EAN_VENV'):
        SETUP['make'](tmp_path / 'venv')
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


@pytest.mark.parametrize(
    ('arguments', 'env', 'message'),
    [
        ([], dict(EAN_MMCV='/nowhere/mmcv.whl'), "EAN_MMCV=/nowhere/mmcv.whl is neither 'lite' nor 'build' nor a file"),
        (['--tests'], {}, 'takes --test and no other argument, not --tests'),
    ],
)
def test_bad_input(arguments, env, message, tmp_path):
    result = setup(tmp_path, *arguments, **env)
    assert result.returncode == 1 and f'error: {message}' in result.stderr.replace('tools/setup.py ', '')
    assert not (tmp_path / 'venv').exists()


def test_which_mmcv(tmp_path, monkeypatch):
    monkeypatch.delenv('EAN_MMCV', raising=False)
    assert SETUP['mmcv_kind']() == 'lite'
    pinned = next(line for line in SETUP['requirements']() if line.startswith('mmcv'))
    assert SETUP['mmcv_requirement'](None, 'lite', pinned) == pinned == 'mmcv-lite==2.1.0'
    wheel = tmp_path / 'mmcv-2.1.0-cp311-cp311-linux_x86_64.whl'
    wheel.touch()
    monkeypatch.setenv('EAN_MMCV', str(wheel))
    assert SETUP['mmcv_requirement'](None, SETUP['mmcv_kind'](), pinned) == str(wheel)
    # another mmcv makes another environment
    assert SETUP['state']('lite') != SETUP['state']('build')


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
