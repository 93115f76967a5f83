"""The compiled library itself: that it is there, the same to rounding on every processor, and what is without it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from ean_mmdet.analysis.timing import kept_memory
from ean_mmdet.ops import backends, norm_gate, norm_gate_cpp
from tests.conftest import ROOT, needs_compiler
from tests.test_ops.test_batch_norm_gate import MODES, assert_equals_reference, fused, make
from tests.test_ops.test_norm_gate import FORMATS

needs_library = pytest.mark.skipif(norm_gate_cpp.missing() is not None, reason=str(norm_gate_cpp.missing()))


@needs_compiler
def test_is_built_where_a_compiler_is():
    """tools/setup.sh builds it; a machine whose PyTorch is too old does without."""
    if tuple(map(int, torch.__version__.split('.')[:2])) < (2, 10):
        pytest.skip('the library needs PyTorch 2.10')
    assert norm_gate_cpp.missing() is None
    assert backends.backend(torch.rand(1, 1, 2, 2)) is norm_gate_cpp


@needs_library
def test_needs_the_stable_interface_alone():
    """Functions of C, of the interface that PyTorch keeps, so that another PyTorch doesn't break it."""
    symbols = subprocess.run(['nm', '-uDC', norm_gate_cpp.LIBRARY], capture_output=True, text=True, check=True).stdout
    foreign = {line.split()[-1] for line in symbols.splitlines() if 'torch' in line or 'c10' in line or 'at::' in line}
    assert {'torch_parallel_for', 'torch_get_num_threads', 'torch_library_impl'} < foreign
    assert [name for name in foreign if not name.startswith(('torch_', 'aoti_torch_'))] == []


@needs_library
def test_nothing_compiled_for_a_better_processor_can_run_on_a_lesser_one():
    """The sets of kernels share no function that the linker could have taken from the wrong one."""
    symbols = subprocess.run(['nm', '-C', norm_gate_cpp.LIBRARY], capture_output=True, text=True, check=True).stdout
    shared = [line for line in symbols.splitlines() if ' W ' in line or ' V ' in line]
    # PyTorch's vectors are in a namespace of their kind of processor; library.cpp is compiled for any.
    assert [line for line in shared if 'at::vec::' in line and 'AVX' not in line and 'DEFAULT' not in line] == []
    assert not [line for line in shared if 'c10::' in line]


@needs_library
def test_one_pixel_keeps_its_strides():
    """As a channels_last convolution returns it, and as the next one wants it; PyTorch's own ReLU loses them."""
    pixel = torch.randn(2, 1, 1, 8).permute(0, 3, 1, 2)
    assert norm_gate(pixel, torch.ones(8), torch.ones(8)).stride() == pixel.stride()


@needs_library
@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
def test_the_sigmoid(dtype):
    """Against float64, over all arguments; a plane of one pixel has the shift's mask, whatever the scale."""
    shift = torch.cat([torch.linspace(-80, 80, 4001), torch.linspace(-1, 1, 4001), torch.tensor([-1e4, 1e4])])
    y = norm_gate(torch.ones(1, len(shift), 1, 1, dtype=dtype), torch.ones_like(shift), shift)
    exact = shift.double().sigmoid()
    # 3e-7, and what rounding the argument to float32 does, as in any sigmoid; below it is the smallest normal number
    bound = 3e-7 + 1.2e-7 * shift.abs().double() + (2**-8 if dtype is torch.bfloat16 else 0)
    assert ((y.flatten() - exact).abs() <= bound * exact + 2e-38).all()


@needs_library
@pytest.mark.parametrize('layout', FORMATS)
@pytest.mark.parametrize('shape', [(3, 37, 2, 2), (130, 20, 1, 1), (2, 16, 8, 8), (2, 100, 3, 5), (4, 70, 9, 7)])
def test_small_planes(shape, layout):
    """Every way that vectors can lie, full and not, and planes of which some are so steep that du is taken again."""
    for mode in MODES:
        for dtype, tolerance in ((torch.float32, 2e-5), (torch.bfloat16, 1.6e-2), (torch.float16, 2e-3)):
            inputs, statistics = make(shape, dtype, layout)
            with torch.no_grad():
                inputs['z'][:, ::3] *= 1e-2
            # On planes of one pixel PyTorch's own batch norm has errors of 4e-5 in float32.
            assert_equals_reference(inputs, statistics, mode, True, max(tolerance, 1e-4 if shape[2:] == (1, 1) else 0))


@needs_library
@pytest.mark.parametrize('shape', [(1, 96, 40, 41), (3, 37, 33, 32), (8, 70, 32, 33)])
def test_large_planes_of_few_samples(shape):
    """In channels_last those of fewer than 8 are read in slices."""
    for dtype, tolerance in ((torch.float32, 2e-5), (torch.bfloat16, 1.6e-2)):
        inputs, statistics = make(shape, dtype, 'channels_last')
        with torch.no_grad():
            inputs['z'][:, ::2] += 20
            inputs['z'][..., 16:, :] *= 3  # moments that differ from slice to slice
        assert_equals_reference(inputs, statistics, 'evaluation', True, tolerance)


RESULTS = """
import sys, torch
from tests.test_ops.test_batch_norm_gate import FORMATS, MODES, fused, make
from ean_mmdet.ops import norm_gate_cpp
results = [norm_gate_cpp.kernels()]
for threads in map(int, sys.argv[2:]):
    torch.set_num_threads(threads)
    results.append([])
    for layout in FORMATS:
        for mode in MODES:
            for dtype in (torch.float32, torch.bfloat16, torch.float16):
                torch.manual_seed(0)
                inputs, (mean, var) = make((3, 40, 30, 31), dtype, layout)
                for t in inputs.values():
                    t.data.copy_(torch.randint(-128, 129, t.shape) / 64)  # randn's last bit depends on the processor
                given = (None, None) if mode == 'without statistics' else (mean, var)
                y = fused(inputs, *given, mode == 'training', False)
                upstream = (torch.arange(y.numel()) % 7 - 3).view(y.shape).to(y)
                results[-1] += [y.detach(), *torch.autograd.grad(y, list(inputs.values()), upstream)]
torch.save(results, sys.argv[1])
"""


def run_with(tmp_path, capability, *threads):
    """The name of the kernels that ran, and for each number of threads their results."""
    path = tmp_path / f'{capability}.pt'
    environment = {**os.environ, 'ATEN_CPU_CAPABILITY': capability, 'EAN_BACKEND': 'cpp', 'PYTHONPATH': str(ROOT)}
    command = [sys.executable, '-W', 'ignore', '-c', RESULTS, path, *map(str, threads)]
    subprocess.run(command, env=environment, check=True, cwd=ROOT)
    return torch.load(path)


@pytest.mark.slow
@needs_library
def test_every_set_of_kernels_and_any_number_of_threads(tmp_path):
    best, expected, threaded = run_with(tmp_path, norm_gate_cpp.kernels(), 1, 4)
    assert best == norm_gate_cpp.kernels()
    for one, other in zip(expected, threaded):
        assert torch.equal(one, other)
    for capability in {'default', 'avx2'} - {best}:
        name, results = run_with(tmp_path, capability, 2)
        assert name == (capability if best == 'avx512' else 'default')
        for one, other in zip(results, expected):
            tolerance = {torch.float32: 2e-5, torch.bfloat16: 1e-2, torch.float16: 2e-3}[one.dtype]
            assert (one - other).abs().max() <= tolerance * other.abs().max()


@needs_library
def test_float64_goes_to_the_eager_path():
    x, vector = torch.rand(1, 4, 3, 3, dtype=torch.float64), torch.rand(4)
    assert norm_gate(x, vector, vector).dtype == torch.float64


@needs_library
def test_forced_on_what_it_does_not_take(monkeypatch):
    monkeypatch.setattr(backends, 'FORCED', 'cpp')
    x, vector = torch.rand(1, 4, 3, 3), torch.rand(4)
    with pytest.raises(RuntimeError, match=r'EAN_BACKEND=cpp can not run here: its kernels take .* torch\.float64'):
        norm_gate(x.double(), vector, vector)
    with pytest.raises(RuntimeError, match=r'its kernels are for the CPU, and the map is on meta'):
        backends.backend(x.to('meta'))


@pytest.mark.parametrize(
    ('content', 'reason'),
    [
        (None, 'was not built when it was installed'),
        (b'no library', r'does not go with PyTorch .*\(.*\)'),
        (Path(torch._C.__file__).read_bytes(), 'is of another version; .* builds it again'),  # any other library
    ],
    ids=['none', 'broken', 'of another version'],
)
def test_without_the_library(monkeypatch, caplog, tmp_path, content, reason):
    """The same numbers, and one line that says what would make it fast."""
    x, vector = torch.rand(1, 4, 3, 3), torch.rand(4)
    expected = norm_gate(x, vector, vector)
    library = tmp_path / '_gate.so'
    if content:
        library.write_bytes(content)
    monkeypatch.setattr(norm_gate_cpp, 'LIBRARY', library)
    for cached in (norm_gate_cpp._load, norm_gate_cpp.missing, backends._hint):
        cached.cache_clear()
    try:
        with caplog.at_level('WARNING', 'ean_mmdet'):
            for _ in range(2):
                torch.testing.assert_close(norm_gate(x, vector, vector), expected)
        assert len(caplog.records) == 1
        assert 'pip install .' in caplog.text
        with pytest.raises(RuntimeError, match=rf'EAN_BACKEND=cpp can not run here: _gate.so {reason}'):
            monkeypatch.setattr(backends, 'FORCED', 'cpp')
            norm_gate(x, vector, vector)
    finally:
        norm_gate_cpp._load.cache_clear()
        norm_gate_cpp.missing.cache_clear()


@needs_library
@pytest.mark.parametrize('layout', FORMATS)
@pytest.mark.parametrize('mode', MODES)
def test_no_layout_is_copied(monkeypatch, mode, layout):
    """The kernels get the caller's memory, forward and backward."""
    seen = []
    operators = [
        lambda *args, original=original: seen.append((args[0], args[13])) or original(*args)
        for original in norm_gate_cpp.operators()
    ]
    monkeypatch.setattr(norm_gate_cpp, 'operators', lambda: operators)
    inputs, (mean, var) = make((2, 6, 7, 5), layout=layout)
    y = fused(inputs, *((None, None) if mode == 'without statistics' else (mean, var)), mode == 'training', True)
    grad = torch.randn_like(y)
    y.backward(grad)
    (z, _), (given_z, given_grad) = seen
    assert z.data_ptr() == given_z.data_ptr() == inputs['z'].data_ptr() and given_grad.data_ptr() == grad.data_ptr()


@needs_library
@pytest.mark.parametrize(('side', 'numbers'), [(1, 0), (2, 0), (3, 2)])
def test_what_the_compiled_kernels_keep_of_a_plane(side, numbers):
    """The map itself, and mean and variance where they aren't taken again sooner than they are read."""
    x, vector = torch.randn(5, 8, side, side, requires_grad=True), torch.ones(8)
    kept = kept_memory(lambda: norm_gate(x, vector, vector)) - vector.nbytes
    assert kept == x.nbytes + numbers * 5 * 8 * 4
    with torch.profiler.profile() as profile:
        norm_gate(x, vector, vector).sum().backward()
    profiled = {event.key for event in profile.key_averages()}
    assert {'ean_mmdet::cpp_gate', 'ean_mmdet::cpp_gate_backward'} <= profiled


@needs_library
@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
@pytest.mark.parametrize('layout', FORMATS)
def test_the_operator_of_compiled_graphs(layout, dtype):
    """Whatever strides it is given, it computes the same, in the layout that its fake tells."""
    operator = torch.ops.ean_mmdet.cpp_gate_inference.default
    wide = torch.randn(2, 6, 7, 10, dtype=dtype).contiguous(memory_format=FORMATS[layout])
    scale, shift, no = torch.randn(6), torch.randn(6), (None, None, None, None, 0.0)
    for z, residual in ((wide, None), (wide[..., ::2], wide[..., 1::2]), (wide, wide.contiguous() * 2)):
        y = operator(z, None, None, scale, shift, 0, 1e-5, *no, residual, True)
        expected = norm_gate(z, scale, shift, residual=residual, activation='relu')
        torch.testing.assert_close(y, expected, rtol=0, atol=0)
        assert y.stride() == expected.stride()
        arguments = z, None, None, scale, shift, 0, 1e-5, *no, residual, True
        assert torch.library.opcheck(operator, arguments, test_utils=('test_schema', 'test_faketensor'))
    with pytest.raises(RuntimeError, match='arguments of other types or shapes than it was compiled for'):
        operator(wide.double(), None, None, scale, shift, 0, 1e-5, *no, None, True)
