"""Batch norm, gate, addition and ReLU in one, held to PyTorch's own batch norm and the plain formula in float64."""

import itertools

import pytest
import torch
from torch.library import opcheck
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from ean_mmdet.ops import batch_norm_gate, ean_gate, norm_gate
from tests.reference import plain_batch_norm_gate
from tests.test_ops.test_norm_gate import FORMATS, TAILS, TOLERANCE
from tests.test_ops.test_operator import saved_bytes

NAMES = ('z', 'scale', 'shift', 'norm_weight', 'norm_bias', 'residual')
MODES = ('training', 'evaluation', 'without statistics')


def make(shape, dtype=torch.float32, layout='contiguous', groups=1, residual=True):
    """The tensors that gradients are asked of, by name, and the running mean and variance."""
    vector_type = torch.promote_types(dtype, torch.float32)
    maps = [torch.randn(shape).to(dtype, memory_format=FORMATS[layout]) for _ in range(2)]
    gate = [torch.randn(shape[1] // groups, dtype=vector_type) for _ in range(2)]
    norm = [torch.randn(shape[1], dtype=vector_type) for _ in range(2)]
    inputs = dict(zip(NAMES, (maps[0], *gate, *norm, maps[1] if residual else None)))
    statistics = torch.randn(shape[1], dtype=vector_type), torch.rand(shape[1], dtype=vector_type) + 0.5
    return {k: v if v is None else v.requires_grad_() for k, v in inputs.items()}, statistics


def fused(inputs, mean, var, training, relu, **arguments):
    i = inputs
    return batch_norm_gate(
        i['z'], mean, var, i['scale'], i['shift'], norm_weight=i['norm_weight'], norm_bias=i['norm_bias'],
        training=training, residual=i['residual'], activation='relu' if relu else None, **arguments,
    )  # fmt: skip


def assert_equals_reference(inputs, statistics, mode, relu, tolerance, momentum=0.1):
    """Result, gradients and running statistics against the reference's. Returns the result."""
    training = mode == 'training'
    mine = [None, None] if mode == 'without statistics' else [t.clone() for t in statistics]
    theirs = [t if t is None else t.double() for t in mine]
    exact = {k: v if v is None else v.detach().double().requires_grad_(v.requires_grad) for k, v in inputs.items()}
    y = fused(inputs, *mine, training, relu, momentum=momentum)
    reference = plain_batch_norm_gate(
        exact['z'], *theirs, exact['scale'], exact['shift'], exact['norm_weight'], exact['norm_bias'], training,
        momentum, exact['residual'], relu,
    )  # fmt: skip
    wanted = [name for name, t in inputs.items() if t is not None and t.requires_grad]
    upstream = torch.randn(y.shape).to(y)
    # A value within a rounding of zero has either sign, and the ReLU's gradient with it.
    upstream[(y > 0) != (reference > 0)] = 0
    results = torch.autograd.grad(y, [inputs[n] for n in wanted], upstream)
    references = torch.autograd.grad(reference, [exact[n] for n in wanted], upstream.double())
    for name, one, other in zip(('y', *wanted), (y, *results), (reference, *references)):
        assert one.shape == other.shape
        assert one.dtype == (inputs['z'] if name == 'y' else inputs[name]).dtype
        # What is exactly zero, as z's gradient on a map of one value a channel, is measured by what cancels.
        error = (one.double() - other).abs().max() / max(other.abs().max(), 1)
        assert error <= tolerance, f'{name}: {error:.1e}'
    for one, other in zip(mine, theirs):
        if one is not None:
            torch.testing.assert_close(one.double(), other, rtol=1e-5, atol=1e-6)
    return y


@pytest.mark.parametrize('layout', FORMATS)
@pytest.mark.parametrize('dtype', TOLERANCE)
@pytest.mark.parametrize('shape', [(2, 6, 7, 5), (5, 20, 1, 1), (3, 4, 20, 23), (1, 5, 60, 66), (2, 70, 4, 4)])
def test_equals_the_plain_formula(backend, skip_float64, shape, dtype, layout):
    skip_float64(dtype)
    for mode, (residual, activation) in itertools.product(MODES, TAILS):
        if mode == 'without statistics' and residual:
            continue
        inputs, statistics = make(shape, dtype, layout, groups=1 + (shape[1] % 2 == 0), residual=residual)
        # On planes of one pixel PyTorch's own batch norm and formula have errors of 4e-5 in float32.
        float32 = 1e-4 if shape[2:] == (1, 1) else 2e-5
        tolerance = max(TOLERANCE[dtype], float32 if dtype is torch.float32 else 0)
        y = assert_equals_reference(inputs, statistics, mode, activation is not None, tolerance)
        assert y.is_contiguous(memory_format=FORMATS[layout])


@pytest.mark.parametrize('layout', FORMATS)
@pytest.mark.parametrize('mode', MODES)
def test_gradcheck(mode, layout):
    inputs, statistics = make((3, 4, 3, 2), torch.float64, layout)
    given = (None, None) if mode == 'without statistics' else statistics
    names = list(inputs)

    def function(*values):
        copies = (t if t is None else t.clone() for t in given)
        return fused(dict(zip(names, values)), *copies, mode == 'training', True)

    assert torch.autograd.gradcheck(function, tuple(inputs.values()))


@pytest.mark.parametrize('mode', MODES)
def test_a_norm_weight_of_zero(backend, mode):
    """As zero_init_residual leaves it: nothing may be divided by it."""
    inputs, statistics = make((2, 6, 5, 4))
    with torch.no_grad():
        inputs['norm_weight'].zero_()
    assert_equals_reference(inputs, statistics, mode, True, 2e-5)


@pytest.mark.parametrize('mode', MODES)
@pytest.mark.parametrize('frozen', [('norm_weight', 'norm_bias'), ('z',), ('scale', 'shift', 'residual')])
def test_frozen(backend, mode, frozen):
    inputs, statistics = make((2, 6, 5, 4))
    for name in frozen:
        inputs[name] = inputs[name].detach()
    assert_equals_reference(inputs, statistics, mode, True, 2e-5)


def test_without_weight_and_bias(backend):
    inputs, statistics = make((2, 6, 5, 4))
    for mode in MODES:
        assert_equals_reference({**inputs, 'norm_weight': None, 'norm_bias': None}, statistics, mode, False, 2e-5)


@pytest.mark.parametrize('momentum', [0.0, 0.03, 1.0])
def test_momentum(backend, momentum):
    inputs, statistics = make((2, 6, 5, 4))
    assert_equals_reference(inputs, statistics, 'training', True, 2e-5, momentum)


@pytest.mark.parametrize('layout', FORMATS)
@pytest.mark.parametrize('mode', MODES)
def test_a_large_mean(backend, mode, layout):
    inputs, (mean, var) = make((2, 6, 40, 41), layout=layout)
    with torch.no_grad():
        inputs['z'].add_(1e4)
        mean.add_(1e4)
    # A mean of 10,000 has half a thousandth of an error in float32. (A ReLU would make a step of that.)
    assert_equals_reference(inputs, (mean, var), mode, False, 4e-3)


@pytest.mark.parametrize('mode', MODES)
@pytest.mark.parametrize(
    'view', [lambda t: t.transpose(2, 3), lambda t: t[:, ::2], lambda t: t[..., 1:6:2], lambda t: t.permute(0, 3, 1, 2)]
)
def test_any_strides(backend, mode, view):
    base = torch.randn(3, 6, 7, 8)
    shape = view(base).shape
    inputs, statistics = make(shape)
    inputs['z'] = view(base.requires_grad_())
    assert_equals_reference(inputs, statistics, mode, True, 2e-5)


@pytest.mark.parametrize('shape', [(0, 4, 3, 3), (2, 4, 0, 3)])
@pytest.mark.parametrize('mode', MODES)
def test_empty(backend, mode, shape):
    inputs, statistics = make(shape)
    given = (None, None) if mode == 'without statistics' else [t.clone() for t in statistics]
    y = fused(inputs, *given, mode == 'training', True)
    assert y.shape == shape
    for gradient in torch.autograd.grad(y.sum(), list(inputs.values())):
        assert not gradient.any()
    if given[0] is not None:
        torch.testing.assert_close(tuple(given), statistics, rtol=0, atol=0)


@pytest.mark.parametrize('layout', FORMATS)
@pytest.mark.parametrize('mode', MODES)
@pytest.mark.parametrize('value', [torch.nan, torch.inf])
def test_what_is_not_finite(backend, mode, value, layout):
    inputs, statistics = make((2, 20, 5, 6), layout=layout)
    with torch.no_grad():
        inputs['z'][1, 3, 2, 2] = value
    given = (None, None) if mode == 'without statistics' else statistics
    i = inputs
    reference = plain_batch_norm_gate(
        i['z'], *(t if t is None else t.clone() for t in given), i['scale'], i['shift'], i['norm_weight'],
        i['norm_bias'], mode == 'training', residual=i['residual'], relu=True,
    )  # fmt: skip
    y = fused(inputs, *(t if t is None else t.clone() for t in given), mode == 'training', True)
    torch.testing.assert_close(y, reference, rtol=1e-3, atol=1e-4, equal_nan=True)
    names = list(inputs)
    gradients = (torch.autograd.grad(t, [inputs[n] for n in names], torch.ones_like(t)) for t in (y, reference))
    for name, mine, theirs in zip(names, *gradients):
        torch.testing.assert_close(mine, theirs, rtol=1e-3, atol=1e-3, equal_nan=True, msg=name)


@pytest.mark.parametrize('layout', FORMATS)
@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
@pytest.mark.parametrize('mode', ['training', 'evaluation'])
def test_keeps_no_map_that_the_plain_network_does_not_keep(backend, mode, dtype, layout):
    inputs, statistics = make((2, 64, 28, 28), dtype, layout)
    size = inputs['z'].nbytes
    y, kept, where = saved_bytes(lambda: fused(inputs, *statistics, mode == 'training', True))
    assert kept <= 2.05 * size
    assert {inputs['z'].untyped_storage().data_ptr(), y.untyped_storage().data_ptr()} <= where
    assert inputs['residual'].untyped_storage().data_ptr() not in where
    _, kept, _ = saved_bytes(lambda: fused(inputs, *statistics, mode == 'training', False))
    assert kept <= 1.05 * size


@pytest.mark.parametrize('layout', FORMATS)
def test_in_place(backend, layout):
    inputs, statistics = make((2, 20, 6, 5), layout=layout)
    inputs = {k: v.detach() for k, v in inputs.items()}
    z = inputs['z'].clone(memory_format=torch.preserve_format)
    expected = fused(inputs, *statistics, False, True)
    y = fused({**inputs, 'z': z}, *statistics, False, True, inplace=True)
    torch.testing.assert_close(y, expected, rtol=0, atol=0)
    assert y.data_ptr() != z.data_ptr()  # a gradient might be recorded here
    with torch.no_grad():
        y = fused({**inputs, 'z': z}, *statistics, False, True, inplace=True)
    assert (y is z) == (backend == 'cpp')
    torch.testing.assert_close(y, expected, rtol=0, atol=0)


@pytest.mark.parametrize('mode', MODES)
def test_is_ean_behind_a_batch_norm(backend, mode):
    """With all four vectors, and every norm of γ."""
    inputs, (mean, var) = make((2, 6, 5, 4))
    vectors = [torch.randn(3, requires_grad=True) for _ in range(4)]
    given = (None, None) if mode == 'without statistics' else (mean, var)
    norm = inputs['norm_weight'], inputs['norm_bias']
    for weight_norm in ('l2', 'rms', 'l1'):
        weight, bias, alpha, delta = vectors
        copies = [[t if t is None else t.clone() for t in given] for _ in range(2)]
        y = batch_norm_gate(
            inputs['z'], *copies[0], alpha, delta, weight, bias, weight_norm, *norm, mode == 'training',
            residual=inputs['residual'], activation='relu',
        )  # fmt: skip
        x = torch.nn.functional.batch_norm(inputs['z'], *copies[1], *norm, mode != 'evaluation')
        apart = ean_gate(x, *vectors, weight_norm, residual=inputs['residual'], activation='relu')
        wanted = [inputs['z'], *vectors, *norm]
        for one, other in zip(*((t, *torch.autograd.grad(t.square().sum(), wanted)) for t in (y, apart))):
            torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize('mode', MODES)
def test_opcheck(mode):
    inputs, (mean, var) = make((2, 4, 3, 5))
    training = mode != 'evaluation'
    norm = inputs['norm_weight'], inputs['norm_bias'], *((None, None) if training else (mean, var)), 1e-5, training
    vectors = None, None, inputs['scale'], inputs['shift'], 'l2', 1e-5
    arguments = inputs['z'], *vectors, inputs['residual'], True, *norm
    operators = torch.ops.ean_mmdet
    y, moments, batch = (t.detach() for t in operators.batch_norm_gate(*arguments))
    if training:
        norm = *norm[:2], *batch.unbind(), *norm[4:]
    detached = [t.detach() if torch.is_tensor(t) else t for t in (y, inputs['z'], y, moments, True, *vectors, *norm)]
    for operator, given in ((operators.batch_norm_gate, arguments), (operators.batch_norm_gate_backward, detached)):
        assert set(opcheck(operator.default, tuple(given)).values()) == {'SUCCESS'}


def test_under_the_transforms_of_torch_func():
    inputs, (mean, var) = make((2, 4, 3, 5), torch.float64)
    names, values = zip(*((k, v.detach()) for k, v in inputs.items()))

    def loss(*values):
        return fused(dict(zip(names, values)), mean, var, False, True).square().sum()

    def plain_loss(z, scale, shift, weight, bias, residual):
        return plain_batch_norm_gate(
            z, mean, var, scale, shift, weight, bias, residual=residual, relu=True
        ).square().sum()  # fmt: skip

    everything = tuple(range(len(values)))
    torch.testing.assert_close(*(torch.func.grad(f, everything)(*values) for f in (loss, plain_loss)))


def test_input_is_checked():
    z, vector = torch.rand(2, 4, 2, 2), torch.rand(4)
    with pytest.raises(
        ValueError, match=r'batch_norm_gate: running_var must be of shape \(C,\) = \(4,\) and on cpu, got \(3,\)'
    ):
        batch_norm_gate(z, vector, vector[:3], vector, vector)
    with pytest.raises(ValueError, match=r'batch_norm_gate: norm_weight must be .* got \(1,\)'):
        batch_norm_gate(z, vector, vector, vector, vector, norm_weight=vector[:1])
    with pytest.raises(ValueError, match=r'batch_norm_gate: delta must be .* got \(2,\)'):
        batch_norm_gate(z, vector, vector, vector, vector[:2])
    with pytest.raises(ValueError, match=r'z must be of shape \(N, C, H, W\), got \(4, 2, 2\)'):
        batch_norm_gate(z[0], vector, vector, vector, vector)
    with pytest.raises(ValueError, match='Expected more than 1 value per channel when training'):
        batch_norm_gate(z[:1, :, :1, :1], vector, vector, vector, vector, training=True)
    with pytest.raises(ValueError, match="weight_norm must be one of l2, rms, l1, got 'l3'"):
        batch_norm_gate(z, vector, vector, vector, vector, weight_norm='l3')


@pytest.mark.parametrize('side', [1, 2, 5])
def test_gradients_where_somebody_watches_the_backward_pass_alone(backend, side):
    """What the forward pass kept without a watcher serves one, and a graph of the gradient."""
    x, vector = torch.randn(3, 8, side, side, requires_grad=True), torch.randn(8)
    weights = torch.randn_like(x)

    def loss():
        return (norm_gate(x, vector, vector) * weights).sum()

    (expected,) = torch.autograd.grad(loss(), x)
    (graph,) = torch.autograd.grad(loss(), x, create_graph=True)
    torch.testing.assert_close(graph, expected)
    watched = loss()
    with FlopCounterMode(display=False):
        watched.backward()
    torch.testing.assert_close(x.grad, expected)


def test_a_norm_with_a_bias_alone(backend):
    x, bias, vector = torch.randn(3, 8, 5, 5), torch.randn(8, requires_grad=True), torch.randn(8)
    weights, statistics = torch.randn_like(x), (torch.randn(8), torch.rand(8) + 0.5)
    (batch_norm_gate(x, *statistics, vector, vector, norm_bias=bias) * weights).sum().backward()
    given, bias.grad = bias.grad, None
    (norm_gate(F.batch_norm(x, *statistics, bias=bias), vector, vector) * weights).sum().backward()
    torch.testing.assert_close(given, bias.grad, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ('given', 'names'),
    [(dict(weight=torch.ones(8)), 'weight and bias'), (dict(running_var=None), 'running_mean and running_var')],
)
def test_vectors_that_go_together(backend, given, names):
    vector = torch.ones(8)
    arguments = dict(running_mean=vector, running_var=vector, alpha=vector, delta=vector)
    with pytest.raises(ValueError, match=f'{names} go together, got one of them alone'):
        batch_norm_gate(torch.randn(2, 8, 3, 3), **{**arguments, **given})
