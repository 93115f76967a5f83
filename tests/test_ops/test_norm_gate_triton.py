"""The Triton kernels: run by Triton's interpreter on the CPU, by a GPU where there is one, and compiled for an H100.

Triton decides when it is imported whether it interprets, so the interpreter has a process of its own: this file once
more, which ``test_in_the_interpreter`` starts.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from ean_mmdet.ops import backends, norm_gate
from tests.test_ops.test_norm_gate import FORMATS, TAILS, assert_equals_plain, make_inputs

triton = pytest.importorskip('triton')
from triton import language as tl  # noqa: E402

from ean_mmdet.analysis.triton_occupancy import compile_kernels, missing, traffic  # noqa: E402
from ean_mmdet.ops import norm_gate_triton, self_check  # noqa: E402
from ean_mmdet.ops import norm_gate_triton_plan as plans  # noqa: E402
from tests.test_ops.test_batch_norm_gate import assert_equals_reference, make  # noqa: E402
from tests.test_ops.triton_bounds import check_bounds  # noqa: E402

ROOT = Path(__file__).parents[2]
INTERPRETED = os.environ.get('TRITON_INTERPRET') == '1'
DEVICE = 'cpu' if INTERPRETED else 'cuda'
runs_kernels = pytest.mark.skipif(
    not (INTERPRETED or torch.cuda.is_available()), reason='runs inside test_in_the_interpreter; here it needs a GPU'
)
TYPES = [torch.float32, torch.float16, torch.bfloat16]
# (N, C, H, W) small enough for the interpreter. With the tiles below: whole planes, several planes a tile, planes
# passed over tile by tile, and planes that programs share; sizes that are and aren't multiples of a power of two.
SHAPES = [(2, 7, 7, 5), (1, 8, 1, 1), (2, 4, 20, 16), (2, 24, 5, 9), (5, 4, 10, 16), (1, 2, 40, 56)]


@pytest.fixture(autouse=True)
def fixed_seed():
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def bounds(monkeypatch):
    """In the interpreter no kernel reads or writes outside of its tensors."""
    return check_bounds(monkeypatch) if INTERPRETED else None


@triton.jit
def _copy(x, y, first, count, SIZE: tl.constexpr):
    places = first + tl.arange(0, SIZE)
    tl.store(y + places, tl.load(x + places, places < count, 0.0), places < count)


@pytest.mark.skipif(not INTERPRETED, reason='runs inside test_in_the_interpreter')
@pytest.mark.parametrize(('first', 'count'), [(-1, 6), (0, 7), (6, 7)])
def test_an_access_out_of_bounds_is_seen(bounds, first, count):
    x, y = torch.arange(6.0), torch.zeros(6)
    with pytest.raises(Exception, match=r'OutOfBounds.*load at'):  # in Triton's own
        _copy[(1,)](x, y, first, count, 8)
    bounds.accesses = 0
    _copy[(1,)](x, y, 0, 6, 8)
    assert torch.equal(x, y) and bounds.accesses == 12


@pytest.fixture
def use_triton(monkeypatch):
    monkeypatch.setattr(backends, 'FORCED', 'triton')


@pytest.fixture
def small_tiles(monkeypatch):
    for name, value in (('TILE', 128), ('LARGE_TILE', 256), ('WHOLE_TILE', 256), ('CHANNELS', 16), ('MIN_CHANNELS', 4)):
        monkeypatch.setattr(plans, name, value)
    monkeypatch.setattr(norm_gate_triton, 'programs', lambda device: 8)
    monkeypatch.setattr(norm_gate_triton, 'cached_bytes', lambda device: 8192)
    plans.make_plan.cache_clear()
    yield
    plans.make_plan.cache_clear()


@pytest.mark.slow
@pytest.mark.skipif(INTERPRETED, reason='this is the interpreter')
def test_in_the_interpreter():
    result = subprocess.run(
        [sys.executable, '-m', 'pytest', '-q', '-p', 'no:cacheprovider', __file__],
        cwd=ROOT,
        env={**os.environ, 'TRITON_INTERPRET': '1', 'PYTHONPATH': str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stdout[-6000:] + result.stderr[-2000:]
    assert ' passed' in result.stdout


@pytest.mark.parametrize('maps', [1, 2])
@pytest.mark.parametrize('layout', FORMATS)
def test_the_shapes_take_every_path(small_tiles, layout, maps):
    made = [plans.make_plan(torch.Size(shape), layout == 'channels_last', maps, 8, 2048) for shape in SHAPES]
    assert {(plan.whole, plan.splits > 1) for plan in made} == {(True, False), (False, False), (False, True)}
    assert any(plan.planes > 1 for plan in made) or maps == 2
    assert any(plan.programs < plan.blocks for plan in made)
    assert any(plan.splits * plan.split_pixels > height * width for plan, (*_, height, width) in zip(made, SHAPES))
    assert {plan.align for plan in made} >= {1, 8 if layout == 'channels_last' else 16}


@runs_kernels
@pytest.mark.parametrize('layout', FORMATS)
@pytest.mark.parametrize('shape', SHAPES)
def test_equals_the_plain_formula(use_triton, small_tiles, shape, layout):
    for index, (residual, activation) in enumerate(TAILS):
        dtype = TYPES[(index + SHAPES.index(shape)) % 3]
        y = assert_equals_plain(make_inputs(shape, dtype, layout, residual, DEVICE), activation, lost_digits=False)
        assert y.is_contiguous(memory_format=FORMATS[layout])


@runs_kernels
@pytest.mark.parametrize('layout', FORMATS)
@pytest.mark.parametrize('shape', SHAPES)
def test_in_place(use_triton, small_tiles, shape, layout):
    x, scale, shift, residual = (t.detach() for t in make_inputs(shape, torch.float16, layout, True, DEVICE))
    expected = norm_gate(x, scale, shift, residual=residual, activation='relu')
    version = x._version
    with torch.no_grad():
        y = norm_gate(x, scale, shift, residual=residual, activation='relu', inplace=True)
    assert y is x and x._version > version
    torch.testing.assert_close(y, expected, rtol=0, atol=0)


@runs_kernels
@pytest.mark.parametrize('layout', FORMATS)
@pytest.mark.parametrize('dtype', TYPES)
def test_at_the_real_tile_sizes(use_triton, dtype, layout):
    assert_equals_plain(make_inputs((1, 2, 100, 90), dtype, layout, True, DEVICE), 'relu', lost_digits=False)
    assert_equals_plain(make_inputs((2, 40, 10, 10), dtype, layout, True, DEVICE), 'relu', lost_digits=False)


@runs_kernels
@pytest.mark.parametrize('layout', FORMATS)
@pytest.mark.parametrize(
    ('dtype', 'factor', 'offset', 'tolerance'),
    [
        (torch.float16, 1e4, 0.0, 2e-3),
        (torch.float16, 1e-6, 0.0, 5e-2),
        (torch.float16, 30.0, 3e4, 2e-3),
        (torch.bfloat16, 1e15, 0.0, 1.6e-2),
        (torch.bfloat16, 1e-30, 0.0, 1.6e-2),
        (torch.float32, 1.0, 1e3, 1e-3),  # of a mean in float32, as much of the deviation is lost
    ],
)
def test_extreme_values(use_triton, small_tiles, dtype, factor, offset, tolerance, layout):
    for shape in ((1, 2, 8, 8), (1, 2, 24, 30)):
        inputs = make_inputs(shape, dtype, layout, device=DEVICE)
        with torch.no_grad():
            inputs[0].mul_(factor).add_(offset)
        assert_equals_plain(inputs, tolerance=tolerance, lost_digits=False)


@runs_kernels
@pytest.mark.parametrize('layout', FORMATS)
def test_an_outlier_in_the_first_tile_costs_no_digits(use_triton, small_tiles, layout):
    """The sums are taken around the first tile's mean."""
    inputs = make_inputs((1, 2, 30, 40), torch.float32, layout, device=DEVICE)
    with torch.no_grad():
        inputs[0][:, :, 0, :4] += 1e4
    assert_equals_plain(inputs, tolerance=1e-4, lost_digits=False)


@runs_kernels
def test_nan_stays_visible(use_triton):
    x = torch.randn(1, 2, 3, 3, device=DEVICE)
    x[0, 0, 0, 0] = torch.nan
    vector = torch.ones(2, device=DEVICE)
    y = norm_gate(x, vector, vector, residual=x, activation='relu')
    assert y[:, 0].isnan().all() and not y[:, 1].isnan().any()


@runs_kernels
@pytest.mark.parametrize('layout', FORMATS)
def test_writes_every_element_and_nothing_else(use_triton, small_tiles, monkeypatch, layout):
    """Outputs start as NaN, in the middle of guard values that must survive."""
    guarded = []

    def poisoned(like, *_, **__):
        size = like.numel()
        memory = torch.full((size + 512,), 7.0, device=DEVICE, dtype=like.dtype)
        memory[256:-256] = torch.nan
        guarded.append(memory)
        return memory[256:-256].as_strided(like.shape, like.stride())

    monkeypatch.setattr(norm_gate_triton.torch, 'empty_like', poisoned)
    for shape in ((2, 5, 7, 5), (2, 3, 16, 17), (1, 3, 30, 40)):
        inputs = make_inputs(shape, torch.float32, layout, True, DEVICE)
        y = norm_gate(*inputs[:3], residual=inputs[3], activation='relu')
        gradients = torch.autograd.grad(y, inputs, torch.ones_like(inputs[0]).normal_())
        assert not any(t.isnan().any() for t in (y, *gradients))
    assert len(guarded) >= 9
    assert all((memory[:256] == 7).all() and (memory[-256:] == 7).all() for memory in guarded)


@runs_kernels
def test_same_input_same_bits(use_triton, small_tiles):
    inputs = make_inputs((2, 4, 12, 30), torch.bfloat16, 'channels_last', device=DEVICE)
    upstream = torch.randn_like(inputs[0])
    first, second = (torch.autograd.grad(norm_gate(*inputs), inputs, upstream) for _ in range(2))
    for one, other in zip(first, second):
        assert torch.equal(one, other)


@runs_kernels
def test_float64_is_refused_when_forced(use_triton):
    x, vector = torch.randn(1, 2, 3, 3, device=DEVICE).double(), torch.ones(2, device=DEVICE)
    with pytest.raises(RuntimeError, match=r'EAN_BACKEND=triton can not run here: its kernels take .* torch\.float64'):
        norm_gate(x, vector, vector)


@runs_kernels
@pytest.mark.parametrize('layout', FORMATS)
@pytest.mark.parametrize('mode', ['training', 'evaluation'])
@pytest.mark.parametrize('shape', SHAPES[3:])
def test_behind_a_batch_norm(use_triton, small_tiles, shape, mode, layout):
    for index, (residual, activation) in enumerate(TAILS[::3]):
        dtype = TYPES[(index + SHAPES.index(shape)) % 3] if activation is None else torch.float32
        inputs, statistics = make(shape, dtype, layout, groups=1 + (shape[1] % 2 == 0), residual=residual)
        inputs = {k: v if v is None else v.detach().to(DEVICE).requires_grad_() for k, v in inputs.items()}
        statistics = [t.to(DEVICE) for t in statistics]
        tolerance = {torch.float32: 1e-4, torch.float16: 4e-3, torch.bfloat16: 3e-2}[dtype]
        assert_equals_reference(inputs, statistics, mode, activation is not None, tolerance)


@pytest.mark.skipif(INTERPRETED, reason='the interpreter compiles nothing')
@pytest.mark.skipif(missing() is not None, reason=str(missing()))
@pytest.mark.parametrize('capability', [80, 90])
@pytest.mark.parametrize(('dtype', 'layout'), [(torch.float32, 'contiguous'), (torch.bfloat16, 'channels_last')])
def test_compiles_without_spills(monkeypatch, tmp_path, capability, dtype, layout):
    """For an A100 and an H100, with the tiles of ResNet-50's largest and smallest maps."""
    monkeypatch.setenv('TRITON_CACHE_DIR', str(tmp_path))
    for shape in ((2, 256, 200, 336), (2, 2048, 25, 42)):
        compiled = compile_kernels(capability, shape, dtype, layout == 'channels_last')
        assert len(compiled) == 6
        for kernel in compiled:
            assert not kernel.spilled and kernel.programs >= 1, kernel.name
            if layout == 'channels_last':  # 16 bytes at once
                assert 'ld.global' in kernel.ptx and '.v4.b32' in kernel.ptx, kernel.name


def test_plan_covers_every_pixel_and_plane():
    for shape in ((1, 1, 1, 1), (8, 256, 200, 304), (1, 3, 1000, 1000), (32, 960, 10, 10), (2, 2048, 25, 38)):
        for channels_last in (False, True):
            for maps in (1, 2):
                plan = plans.make_plan(torch.Size(shape), channels_last, maps, 264, 10 << 20)
                samples, channels, height, width = shape
                planes_of_a_sample = channels if channels_last else samples * channels
                assert plan.blocks * plan.planes >= (samples if channels_last else 1) * planes_of_a_sample
                assert plan.splits * plan.split_pixels >= height * width > (plan.splits - 1) * plan.split_pixels
                assert plan.split_pixels % plan.pixels == 0 or plan.splits == 1
                assert plan.whole == (plan.pixels >= height * width and plan.splits == 1) or not plan.whole
                assert plan.programs == plan.blocks or not plan.whole
                assert plan.programs <= plan.blocks <= plan.programs * -(-plan.blocks // plan.programs)
                assert plan.warps & (plan.warps - 1) == 0 and 1 <= plan.warps <= 32


@runs_kernels
@pytest.mark.parametrize('direction', ['forward', 'backward'])
@pytest.mark.parametrize('layout', FORMATS)
def test_passes_its_self_check(layout, direction, monkeypatch):
    monkeypatch.setattr(norm_gate_triton, 'programs', lambda device: 8)
    norm = 'training' if layout == 'contiguous' else 'evaluation'
    variant = self_check.Variant(direction, torch.float16, layout == 'channels_last', norm, True, True)
    assert self_check.check(norm_gate_triton, variant, torch.device(DEVICE)) is None


def test_planes_under_way_fit_the_cache():
    """At twice 256 × 200 × 304 all planes together are 125 MB, and an H100's cache holds 50."""
    forward, *_ = traffic((2, 256, 200, 304), torch.float32, False)
    assert forward.planned == forward.least == 3
    _, _, backward, _ = traffic((2, 256, 200, 304), torch.bfloat16, False)
    assert backward.planned == backward.least == 5
    plan = plans.make_plan(torch.Size((2, 256, 200, 304)), False, 1, 264, (50 << 20) * 3 // 16)
    assert plan.turns and plan.programs * 200 * 304 * 4 < 50 << 20 and plan.programs >= 66
