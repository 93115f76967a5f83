"""Kernels that prove themselves before a map gets them: verdicts, the fall back to eager, and what is kept."""

import json
import subprocess
import sys
from types import ModuleType

import pytest
import torch

from ean_mmdet.ops import backends, norm_gate, norm_gate_cpp, norm_gate_eager, self_check
from ean_mmdet.ops.self_check import Checked, Variant, check, variants, verdict

CPU = torch.device('cpu')
FORWARD = Variant('forward', torch.float32, False, 'training', True, True)


def kernels(name='right', forward=lambda *results: results, backward=lambda *results: results):
    """An implementation of its own, eager PyTorch with its results put through functions; it counts its calls."""
    module = ModuleType(f'tests.{name}')
    module.IN_PLACE, module.calls = True, 0

    def run_forward(z, vectors, eps, residual, relu, norm, out=None):
        module.calls += 1
        y, *rest = forward(*norm_gate_eager.forward(z, vectors, eps, residual, relu, norm))
        return (y if out is None else out.copy_(y)), *rest

    def run_backward(*arguments):
        module.calls += 1
        return backward(*norm_gate_eager.backward(*arguments))

    module.forward, module.backward = run_forward, run_backward
    return module


def broken(*_):
    raise RuntimeError('PassManager::run failed\nand more lines')


@pytest.fixture(autouse=True)
def fresh_cache(tmp_path, monkeypatch):
    monkeypatch.setenv('EAN_CACHE', str(tmp_path))
    self_check._file.cache_clear()
    yield
    self_check._file.cache_clear()


def test_variants_are_all_that_differ():
    found = list(variants())
    assert len(set(found)) == len(found) == 3 * 2 * 3 * (4 + 3)
    assert str(FORWARD) == 'forward, float32, contiguous, batch norm in training, residual, ReLU'


@pytest.mark.skipif(norm_gate_cpp.missing() is not None, reason='needs the compiled kernels')
@pytest.mark.parametrize('direction', ['forward', 'backward'])
def test_the_compiled_kernels_pass(direction):
    for dtype, channels_last, norm in zip(self_check.TOLERANCES, (False, True, False), self_check.NORM_KINDS):
        assert check(norm_gate_cpp, Variant(direction, dtype, channels_last, norm, True, True), CPU) is None


@pytest.mark.parametrize(
    ('module', 'direction', 'problem'),
    [
        (kernels(forward=lambda y, *rest: (y * 1.01, *rest)), 'forward', 'differs by 0.01 of the largest value'),
        (kernels(forward=lambda y, *rest: (y.fill_(torch.nan), *rest)), 'forward', 'differs by nan'),
        (kernels(forward=lambda y, moments, batch: (y, moments + 0.1, batch)), 'forward', 'differs by 0.'),
        (kernels(backward=lambda dz, vectors, norm: (dz * 2, vectors, norm)), 'backward', 'differs by 1'),
        (kernels(backward=lambda dz, vectors, norm: (dz, vectors[::-1], norm)), 'backward', 'differs by'),
        (kernels(backward=lambda dz, vectors, norm: (dz, vectors, norm.flip(0))), 'backward', 'differs by'),
        (kernels(forward=broken), 'forward', 'fails (RuntimeError: PassManager::run failed)'),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said(module, direction, problem):
    assert problem in check(module, FORWARD._replace(direction=direction), CPU)
    other = {'forward': 'backward', 'backward': 'forward'}[direction]
    assert check(module, FORWARD._replace(direction=other), CPU) is None


@pytest.mark.parametrize('forward', [lambda y, *rest: (y * 2, *rest), broken])
def test_eager_takes_over_with_one_line(monkeypatch, caplog, forward):
    module = kernels('wrong', forward)
    monkeypatch.setattr(backends, '_triton', lambda: module)
    monkeypatch.setattr(backends, 'backend', lambda z: backends._checked(module))
    monkeypatch.setattr('ean_mmdet.ops.operator.backend', lambda z: backends._checked(module))
    monkeypatch.setattr(sys.modules['ean_mmdet.ops.norm_gate'], 'quick', lambda *args: None)
    x, scale = torch.randn(2, 4, 5, 5, requires_grad=True), torch.randn(4)
    monkeypatch.setattr(backends, 'FORCED', 'eager')
    expected = norm_gate_eager.forward(
        x.detach(), self_check.Vectors(None, None, scale, scale, 'l2'), 1e-5, None, False,
        self_check.BatchNorm(None, None, None, None, 0.0, False),
    )[0]  # fmt: skip
    monkeypatch.setattr(backends, 'FORCED', None)
    for _ in range(2):
        y = norm_gate(x, scale, scale)
        torch.testing.assert_close(y, expected)
    y.sum().backward()
    assert x.grad.isfinite().all()
    with torch.no_grad():
        overwritten = x.detach().clone()
        assert norm_gate(overwritten, scale, scale, inplace=True) is overwritten
    torch.testing.assert_close(overwritten, expected)
    lines = [record.getMessage() for record in caplog.records if 'plain PyTorch here' in record.getMessage()]
    assert len(lines) == 1 and '(forward, float32, contiguous)' in lines[0] and 'tools/doctor.py' in lines[0]


def test_a_right_kernel_is_used():
    module = kernels()
    checked = Checked(module)
    z = torch.randn(2, 4, 5, 5)
    arguments = z, self_check.Vectors(None, None, torch.ones(4), torch.ones(4), 'l2'), 1e-5, None, False
    checked.forward(*arguments, self_check.BatchNorm(None, None, None, None, 0.0, False))
    first = module.calls
    checked.forward(*arguments, self_check.BatchNorm(None, None, None, None, 0.0, False))
    assert first > 1 and module.calls == first + 1


def test_verdicts_are_kept_by_versions(tmp_path, monkeypatch):
    module = kernels()
    assert verdict(module, FORWARD, CPU) is None
    calls = module.calls
    assert calls and verdict(module, FORWARD, CPU) is None and module.calls == calls
    (file,) = (tmp_path / 'self_check').iterdir()
    assert json.loads(file.read_text()) == {str(FORWARD): None}
    file.write_text('{"forward')  # cut off by a crash
    assert verdict(module, FORWARD, CPU) is None and module.calls == 2 * calls
    monkeypatch.setattr(torch, '__version__', '9.9.9')
    self_check._file.cache_clear()
    assert verdict(module, FORWARD, CPU) is None and module.calls == 3 * calls
    assert len(list((tmp_path / 'self_check').iterdir())) == 2


def test_a_cache_that_can_not_be_written_to_is_no_failure(tmp_path, monkeypatch):
    (tmp_path / 'file').touch()
    monkeypatch.setenv('EAN_CACHE', str(tmp_path / 'file'))
    assert verdict(kernels(), FORWARD, CPU) is None


@pytest.mark.slow
def test_a_kept_verdict_holds_in_another_process(tmp_path):
    verdict(norm_gate_eager, FORWARD, CPU)
    (file,) = (tmp_path / 'self_check').iterdir()
    file.write_text(json.dumps({str(FORWARD): 'differs by 3 of the largest value'}))
    code = (
        'import torch; from ean_mmdet.ops import norm_gate_eager, self_check as s; '
        'variant = s.Variant("forward", torch.float32, False, "training", True, True); '
        'print(s.verdict(norm_gate_eager, variant, torch.device("cpu")))'
    )
    result = subprocess.run([sys.executable, '-W', 'ignore', '-c', code], capture_output=True, text=True)
    # the last line: OneDL's fork prints others as it is imported
    assert result.stdout.splitlines()[-1] == 'differs by 3 of the largest value', result.stderr[-2000:]
