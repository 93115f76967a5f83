import subprocess
import sys
import warnings

import pytest
import torch

from ean_mmdet.ops import backends, norm_gate, norm_gate_eager
from tests.reference import plain_norm_gate

NO_NORM = (None, None, None, None, 0.0, False)
FORMATS = {'contiguous': torch.contiguous_format, 'channels_last': torch.channels_last}
TAILS = [(False, None), (True, None), (False, 'relu'), (True, 'relu')]
# Largest error over largest value: a few units in the last place of the type.
TOLERANCE = {torch.float64: 1e-11, torch.float32: 1e-5, torch.float16: 2e-3, torch.bfloat16: 1.6e-2}


def plain(x, scale, shift, residual=None, activation=None, eps=1e-5):
    y = plain_norm_gate(x, scale, shift, eps)
    y = y if residual is None else y + residual
    return y.relu() if activation else y


def make_inputs(shape, dtype=torch.float32, layout='contiguous', residual=False, device='cpu'):
    """x, scale, shift and perhaps a residual, wanting gradients."""
    parameter_type = torch.promote_types(dtype, torch.float32)
    maps = [torch.randn(shape).to(device, dtype, memory_format=FORMATS[layout]) for _ in range(1 + residual)]
    vectors = [torch.randn(shape[1], dtype=parameter_type, device=device) for _ in range(2)]
    return [t.requires_grad_() for t in (maps[0], *vectors, *maps[1:])]


def condition(x, eps):
    """Largest |mean| / deviation of a plane: the digits that PyTorch's own GroupNorm, scale · x + shift, loses."""
    mean, variance = x.mean((2, 3)), x.var((2, 3), correction=0)
    return (mean.abs() / (variance + eps).sqrt()).amax()


def assert_equals_plain(inputs, activation=None, tolerance=None, eps=1e-5, lost_digits=True):
    """Forward and every gradient against the float64 plain formula; types and layout are those of the inputs."""
    x, scale = inputs[:2]
    upstream = torch.randn(x.shape).to(x)
    y = norm_gate(*inputs[:3], eps, *inputs[3:], activation=activation)
    exact = [t.detach().double().requires_grad_() for t in inputs]
    reference = plain(*exact, activation=activation, eps=eps)
    results = zip(
        ('y', 'dx', 'dscale', 'dshift', 'dresidual'),
        (y, *torch.autograd.grad(y, inputs, upstream)),
        (reference, *torch.autograd.grad(reference, exact, upstream.double())),
        (x, *inputs),
    )
    allowed = tolerance or TOLERANCE[x.dtype]
    if lost_digits:
        allowed += 20 * torch.finfo(scale.dtype).eps * condition(exact[0].detach(), eps)
    for name, mine, theirs, like in results:
        assert mine.dtype == like.dtype and mine.shape == like.shape, name
        # What is exactly zero, as dscale on a plane of one pixel is, is measured by what it is a difference of.
        size = max(theirs.abs().amax(), 1 if name == 'dx' else exact[0].abs().amax())
        error = (mine.double() - theirs).abs().amax() / size
        assert error <= allowed, f'{name}: {error:.2e}'
    return y


@pytest.mark.parametrize('layout', FORMATS)
@pytest.mark.parametrize('dtype', TOLERANCE)
@pytest.mark.parametrize('shape', [(2, 6, 7, 5), (1, 8, 1, 1), (5, 1, 4, 4), (3, 4, 20, 23), (1, 5, 200, 336)])
def test_equals_the_plain_formula(backend, skip_float64, shape, dtype, layout):
    skip_float64(dtype)
    for residual, activation in TAILS:
        y = assert_equals_plain(make_inputs(shape, dtype, layout, residual), activation)
        assert y.is_contiguous(memory_format=FORMATS[layout])


@pytest.mark.parametrize('layout', FORMATS)
@pytest.mark.parametrize('dtype', TOLERANCE)
def test_in_place(backend, skip_float64, dtype, layout):
    skip_float64(dtype)
    for residual, activation in TAILS:
        x, scale, shift, *rest = (t.detach() for t in make_inputs((3, 6, 7, 5), dtype, layout, residual))
        arguments = dict(residual=rest[0] if rest else None, activation=activation)
        expected = norm_gate(x, scale, shift, **arguments)
        with torch.no_grad():
            given = x.clone(memory_format=torch.preserve_format)
            y = norm_gate(given, scale, shift, **arguments, inplace=True)
            # The eager implementation would have to copy.
            assert (y is given and y._version > 0) == (backend == 'cpp')
            torch.testing.assert_close(y, expected, rtol=0, atol=0)
            for residual in (given := x.clone(), given.detach()):
                y = norm_gate(given, scale, shift, residual=residual, inplace=True)
                torch.testing.assert_close(y, norm_gate(x, scale, shift, residual=x))


@pytest.mark.parametrize('layout', FORMATS)
@pytest.mark.parametrize('dtype', TOLERANCE)
def test_in_place_with_a_residual_of_another_type(dtype, layout):
    x, scale, shift = (t.detach() for t in make_inputs((3, 6, 7, 5), dtype, layout))
    with torch.no_grad():
        for other in (x, x.float() if dtype is torch.float64 else x.double()):
            y = norm_gate(x.clone(), scale, shift, residual=other, inplace=True)
            torch.testing.assert_close(y, norm_gate(x, scale, shift, residual=other))


def test_not_in_place_where_a_gradient_is_wanted():
    x, scale, shift = make_inputs((2, 3, 4, 4))
    before = x.detach().clone()
    y = norm_gate(x, scale, shift, inplace=True)
    assert y.requires_grad and torch.equal(x, before)


def test_not_in_place_where_that_can_not_be():
    x, scale, shift = (t.detach() for t in make_inputs((2, 4, 5, 6)))
    expected = norm_gate(x, scale, shift)
    with torch.inference_mode():
        of_inference = x.clone()
    with torch.no_grad():
        for given in (torch.cat([x, x], 1)[:, ::2].copy_(x), of_inference):
            torch.testing.assert_close(norm_gate(given, scale, shift, inplace=True), expected)
            torch.testing.assert_close(given, x, rtol=0, atol=0)
        expanded = x[:, :1].expand(-1, 4, -1, -1)
        y = norm_gate(expanded, scale, shift, inplace=True)
        torch.testing.assert_close(y, norm_gate(expanded.contiguous(), scale, shift))
        many = torch.func.vmap(lambda x: norm_gate(x, scale, shift, inplace=True))(torch.stack([x, 2 * x]))
        torch.testing.assert_close(many, torch.stack([expected, norm_gate(2 * x, scale, shift)]))


@pytest.mark.parametrize('layout', FORMATS)
@pytest.mark.parametrize(('residual', 'activation'), TAILS)
def test_gradcheck(layout, residual, activation):
    inputs = make_inputs((2, 3, 4, 3), torch.float64, layout, residual)
    assert torch.autograd.gradcheck(lambda *t: norm_gate(*t[:3], 1e-5, *t[3:], activation=activation), inputs)


@pytest.mark.parametrize('layout', FORMATS)
def test_every_element_is_written(backend, layout):
    """PyTorch fills fresh memory with NaN here."""
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        torch.use_deterministic_algorithms(True)
    try:
        assert torch.empty(3).isnan().all()
        for shape, dtype in (((2, 40, 30, 31), torch.float32), ((3, 200, 40, 41), torch.bfloat16)):
            assert_equals_plain(make_inputs(shape, dtype, layout, residual=True), 'relu')
    finally:
        torch.use_deterministic_algorithms(False)


@pytest.mark.parametrize(
    'view',
    [
        lambda x: x.transpose(2, 3),
        lambda x: x[:, ::2],
        lambda x: x[..., 1:6:2],
        lambda x: x[:, :, :1, :1].expand(-1, -1, 6, 7),
        lambda x: x[:, :1].expand(-1, 4, -1, -1),
        lambda x: x.permute(0, 3, 1, 2),
        lambda x: x.flip(1).permute(1, 0, 3, 2),
        lambda x: x.to(memory_format=torch.channels_last)[:, 2:],
    ],
    ids=['transposed', 'every 2nd channel', 'sliced', 'one pixel', 'one channel', 'NHWC', 'permuted', 'channels_last'],
)
def test_any_strides(backend, view):
    base = torch.randn(4, 6, 8, 10, requires_grad=True)
    x = view(base)
    scale, shift = (torch.randn(x.shape[1], requires_grad=True) for _ in range(2))
    residual = view(torch.randn(4, 6, 8, 10)).contiguous()
    inputs = base, scale, shift
    y, reference = (function(x, scale, shift, residual=residual, activation='relu') for function in (norm_gate, plain))
    torch.testing.assert_close(y, reference, rtol=1e-4, atol=1e-4)
    upstream = torch.randn_like(y).transpose(2, 3).contiguous().transpose(2, 3)
    for mine, theirs in zip(*(torch.autograd.grad(out, inputs, upstream) for out in (y, reference))):
        torch.testing.assert_close(mine, theirs, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize('layout', FORMATS)
def test_no_layout_is_copied(monkeypatch, layout):
    """The implementations get the caller's memory, forward and backward."""
    seen = []
    for name in ('forward', 'backward'):
        original = getattr(norm_gate_eager, name)
        monkeypatch.setattr(
            norm_gate_eager, name, lambda *args, original=original: seen.append(args[:2]) or original(*args)
        )
    monkeypatch.setattr(backends, 'FORCED', 'eager')
    x, scale, shift = make_inputs((2, 6, 7, 5), layout=layout)
    y = norm_gate(x, scale, shift)
    grad = torch.randn_like(y)
    y.backward(grad)
    (given, _), (given_grad, given_back) = seen
    assert given.data_ptr() == given_back.data_ptr() == x.data_ptr() and given_grad.data_ptr() == grad.data_ptr()


def test_sliced_channels_last_stays_channels_last():
    x = torch.randn(2, 8, 5, 6).to(memory_format=torch.channels_last)
    assert norm_gate(x[:, :4], torch.ones(4), torch.ones(4)).is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize('layout', FORMATS)
@pytest.mark.parametrize('shape', [(0, 4, 3, 3), (2, 4, 0, 3), (2, 0, 3, 3)])
def test_empty(shape, layout):
    inputs = make_inputs(shape, layout=layout, residual=True)
    y = norm_gate(*inputs[:3], residual=inputs[3], activation='relu')
    assert y.shape == shape
    for gradient, value in zip(torch.autograd.grad(y.sum(), inputs), inputs):
        assert gradient.shape == value.shape and not gradient.any()


@pytest.mark.parametrize('layout', FORMATS)
@pytest.mark.parametrize(
    ('dtype', 'factor', 'offset', 'tolerance'),
    [
        (torch.float16, 1e4, 0.0, 2e-3),  # up to 4e4 of 65504
        (torch.float16, 1e-6, 0.0, 5e-2),  # subnormal, where the type itself has one digit
        (torch.float16, 30.0, 3e4, 2e-3),  # a spacing of 16 on a large mean
        (torch.bfloat16, 1e15, 0.0, 1.6e-2),
        (torch.bfloat16, 1e-30, 0.0, 1.6e-2),
        (torch.float32, 1.0, 1e4, 1e-5),
    ],
)
def test_extreme_values(backend, dtype, factor, offset, tolerance, layout):
    inputs = make_inputs((2, 4, 24, 30), dtype, layout)
    with torch.no_grad():
        inputs[0].mul_(factor).add_(offset)
    assert_equals_plain(inputs, tolerance=tolerance)


def test_a_constant_plane_is_gated_by_the_shift_alone(backend):
    shift = torch.randn(3)
    y = norm_gate(torch.full((1, 3, 4, 4), 7.0), torch.randn(3), shift)
    expected = 7 * shift.sigmoid().view(1, 3, 1, 1).expand(1, 3, 4, 4)
    torch.testing.assert_close(y, expected, rtol=1e-4, atol=0)


@pytest.mark.parametrize('layout', FORMATS)
@pytest.mark.parametrize('value', [torch.nan, torch.inf, -torch.inf, 1e15])
def test_what_is_not_finite_comes_out_as_of_the_plain_formula(backend, value, layout):
    x, scale, shift, residual = make_inputs((2, 20, 6, 7), layout=layout, residual=True)
    with torch.no_grad():
        x[1, 3, 2, 2] = residual[0, 5, 0, 1] = value
    inputs = x, scale, shift, residual
    results = []
    for function in (norm_gate, plain):
        y = function(x, scale, shift, residual=residual, activation='relu')
        results.append((y, *torch.autograd.grad(y, inputs, torch.ones_like(y))))
    for mine, theirs in zip(*results):
        torch.testing.assert_close(mine, theirs, rtol=1e-3, atol=1e-4, equal_nan=True)


def test_saturated_masks(backend):
    x, scale, shift = make_inputs((2, 5, 6, 7))
    with torch.no_grad():
        scale.mul_(1e3)
    y, reference = norm_gate(x, scale, shift), plain(x, scale, shift)
    torch.testing.assert_close(y, reference, rtol=1e-4, atol=1e-6)
    upstream = torch.randn_like(x)
    for mine, theirs in zip(*(torch.autograd.grad(t, (x, scale, shift), upstream) for t in (y, reference))):
        torch.testing.assert_close(mine, theirs, rtol=1e-2, atol=1e-4)


@pytest.mark.parametrize('argument', ['scale', 'shift'])
@pytest.mark.parametrize('value', [torch.nan, torch.inf, -torch.inf])
def test_vectors_that_are_not_finite(backend, value, argument):
    x, scale, shift = (t.detach() for t in make_inputs((1, 20, 6, 7)))
    dict(scale=scale, shift=shift)[argument][3] = value
    torch.testing.assert_close(norm_gate(x, scale, shift), plain(x, scale, shift), rtol=1e-4, atol=1e-5, equal_nan=True)


def test_half_parameters_and_mixed_residual():
    x, scale, shift = torch.randn(2, 4, 5, 5).half(), torch.randn(4).half(), torch.randn(4).half()
    assert norm_gate(x, scale, shift).dtype == torch.float16
    residual = torch.randn(2, 4, 5, 5)
    y = norm_gate(x, scale, shift, residual=residual, activation='relu')
    assert y.dtype == torch.float32
    torch.testing.assert_close(y, (plain_norm_gate(x.float(), scale.float(), shift.float()) + residual).relu(),
                               rtol=1e-2, atol=1e-2)  # fmt: skip


@pytest.mark.slow
def test_imports_nothing_of_openmmlab():
    code = (
        'import sys\n'
        'for name in ("mmengine", "mmcv", "mmdet", "mmpretrain"): sys.modules[name] = None\n'
        'import torch\n'
        'from ean_mmdet.ops import norm_gate\n'
        'x = torch.rand(2, 4, 5, 5, requires_grad=True)\n'
        'norm_gate(x, torch.rand(4), torch.rand(4)).sum().backward()\n'
        'assert x.grad.isfinite().all()\n'
        'print(sorted({name.partition(".")[0] for name in sys.modules if name.startswith("mm")} - {"mmap"}))'
    )
    result = subprocess.run([sys.executable, '-W', 'ignore', '-c', code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == "['mmcv', 'mmdet', 'mmengine', 'mmpretrain']"  # the four Nones


def test_input_is_checked():
    x, vector = torch.rand(1, 4, 2, 2), torch.rand(4)
    with pytest.raises(ValueError, match=r'\(N, C, H, W\), got \(4, 2, 2\)'):
        norm_gate(x[0], vector, vector)
    with pytest.raises(ValueError, match=r'shift must be of shape \(C,\) = \(4,\).*got \(3,\)'):
        norm_gate(x, vector, vector[:3])
    with pytest.raises(ValueError, match=r'scale must be of shape .*got \(0,\)'):
        norm_gate(x, vector[:0], vector[:0])
    with pytest.raises(TypeError, match=r'floating-point type, got torch\.int64'):
        norm_gate(x.long(), vector, vector, residual=x)
    with pytest.raises(TypeError, match=r'floating-point type, got torch\.int64'):
        norm_gate(x.long(), vector, vector)
    with pytest.raises(ValueError, match=r'residual must be of the shape of x, \(1, 4, 2, 2\)'):
        norm_gate(x, vector, vector, residual=x[..., :1])
    with pytest.raises(ValueError, match=r"activation must be 'relu' or None, got 'gelu'"):
        norm_gate(x, vector, vector, activation='gelu')
    with pytest.raises(ValueError, match=r'scale is on meta, the map on cpu'):
        norm_gate(x, vector.to('meta'), vector)


@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a GPU')
@pytest.mark.parametrize('backend', ['eager', 'triton'])
@pytest.mark.parametrize('layout', FORMATS)
@pytest.mark.parametrize('shape', [(2, 6, 7, 5), (1, 8, 1, 1), (8, 960, 10, 10), (2, 256, 200, 304), (1, 3, 700, 900)])
def test_on_a_gpu(monkeypatch, shape, layout, backend):
    monkeypatch.setattr(backends, 'FORCED', backend)
    for dtype in (torch.float32, torch.float16, torch.bfloat16):
        for residual, activation in TAILS:
            y = assert_equals_plain(make_inputs(shape, dtype, layout, residual, 'cuda'), activation)
            assert y.is_contiguous(memory_format=FORMATS[layout])


@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a GPU')
@pytest.mark.parametrize('layout', FORMATS)
def test_more_elements_than_32_bits_count_on_a_gpu(layout):
    if torch.cuda.mem_get_info()[0] < 20 * 2**30:
        pytest.skip('needs 20 GiB of GPU memory')
    x = torch.randn(9, 256, 1024, 1024, device='cuda', dtype=torch.float16).to(memory_format=FORMATS[layout])
    scale, shift = (torch.randn(256, device='cuda') for _ in range(2))
    y = norm_gate(x, scale, shift)
    for sample in (0, 8):
        part = x[sample : sample + 1].float()
        torch.testing.assert_close(y[sample].float(), plain_norm_gate(part, scale, shift)[0], rtol=2e-3, atol=2e-3)
