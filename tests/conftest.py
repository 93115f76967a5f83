"""Fixtures shared by the tests."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from mmengine.logging import MMLogger, print_log  # noqa: F401, mmengine's logging set up before any test
from mmengine.registry import DefaultScope
from torch.func import functional_call

import ean_mmdet  # noqa: F401, registers the modules
from ean_mmdet.datasets import make_sample_dataset
from tests.external_configs import read_metafiles_once
from tests.fork_server import ForkServer

ROOT = Path(__file__).parents[1]
SHARED_DATA = ROOT.parent / 'shared' / 'data'
HAS_COMPILER = any(map(shutil.which, (os.environ.get('CXX', 'c++'), 'g++', 'clang++')))
needs_compiler = pytest.mark.skipif(not HAS_COMPILER, reason='no C++ compiler here')

torch.set_num_threads(1 if 'PYTEST_XDIST_WORKER' in os.environ else 2)
read_metafiles_once()


@pytest.fixture(autouse=True)
def mmdet_scope():
    """Names without a prefix are mmdet's or ours, as in the configs."""
    with DefaultScope.overwrite_default_scope('mmdet'):
        yield


@pytest.fixture(autouse=True)
def fixed_seed():
    torch.manual_seed(0)


@pytest.fixture(scope='session', autouse=True)
def own_cache(tmp_path_factory):
    """What is kept of images that were looked at stays out of the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv('EAN_CACHE', str(tmp_path_factory.mktemp('cache')))
        yield


@pytest.fixture(scope='session')
def sample_data(tmp_path_factory) -> Path:
    """A small generated data set: 24 training and 8 validation images."""
    return make_sample_dataset(tmp_path_factory.mktemp('sample'), train=24, val=8)


@pytest.fixture(scope='session')
def shared_data():
    """The folder of real data beside the repository; skips where it is absent."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f'needs the real data in {SHARED_DATA}')
    return SHARED_DATA


@pytest.fixture(scope='session')
def fork_server():
    """Runs tools in processes that have their imports already."""
    with ForkServer() as server:
        yield server


@pytest.fixture(scope='session')
def run_tool(fork_server):
    """Run a command line of tools/ as a user would, in a process of its own."""

    def run(name: str, *args: object, check: bool = True, **env: str) -> subprocess.CompletedProcess:
        script = ROOT / 'tools' / name
        if script.suffix == '.py':
            result = fork_server.run(script, *args, **env)
        else:
            result = subprocess.run(
                ['bash', script, *map(str, args)],
                cwd=ROOT,
                # one thread a process: tests share few cores
                env={**os.environ, 'OMP_NUM_THREADS': '1', 'VIRTUAL_ENV': sys.prefix, **env},
                capture_output=True,
                text=True,
                timeout=600,
            )
        if check and result.returncode:
            raise AssertionError(f'{result.args} failed:\n{result.stdout[-3000:]}\n{result.stderr[-3000:]}')
        return result

    return run


@pytest.fixture
def assert_agrees():
    """A check that a module computes a formula: values, all gradients, and gradients against finite differences."""

    def check(module, formula, shape=(2, 16, 5, 4), gradient_tolerance=1e-9):
        torch.manual_seed(0)
        module = module.double()
        for parameter in module.parameters():
            parameter.data.normal_(0.2, 1)
        names, parameters = zip(*module.named_parameters())
        x = torch.randn(shape, dtype=torch.float64, requires_grad=True)

        actual, expected = module(x), formula(x, dict(zip(names, parameters)))
        torch.testing.assert_close(actual, expected, rtol=1e-9, atol=1e-11)

        cotangent = torch.randn_like(actual)
        inputs = (x, *parameters)
        gradients = torch.autograd.grad(actual, inputs, cotangent)
        for name, gradient, reference in zip(
            ('x', *names), gradients, torch.autograd.grad(expected, inputs, cotangent)
        ):
            torch.testing.assert_close(
                gradient,
                reference,
                rtol=gradient_tolerance,
                atol=gradient_tolerance,
                msg=lambda message, name=name: f'{name}: {message}',
            )

        def run(x, *parameters):
            return functional_call(module, dict(zip(names, parameters)), x)

        assert torch.autograd.gradcheck(run, inputs, fast_mode=True)

    return check
