"""The operator as PyTorch sees it: autograd, what it keeps, autocast, the compiler, export and torch.func."""

import copy

import pytest
import torch
from torch import nn
from torch.library import opcheck
from torch.utils.checkpoint import checkpoint
from torch.utils.flop_counter import FlopCounterMode

from ean_mmdet.ops import norm_gate
from tests.conftest import needs_compiler
from tests.test_ops.test_norm_gate import FORMATS, NO_NORM, TAILS, make_inputs, plain

OPERATOR = torch.ops.ean_mmdet.batch_norm_gate.default
BACKWARD = torch.ops.ean_mmdet.batch_norm_gate_backward.default


class Gate(nn.Module):
    """norm_gate between convolutions, as a network has it."""

    def __init__(self, residual=False, activation=None):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)
        self.scale, self.shift = (nn.Parameter(torch.randn(8)) for _ in range(2))
        self.head = nn.Conv2d(8, 4, 1)
        self.residual, self.activation = residual, activation

    def forward(self, x):
        x = self.conv(x)
        residual = x.tanh() if self.residual else None
        return self.head(norm_gate(x, self.scale, self.shift, residual=residual, activation=self.activation))


def saved_bytes(function):
    """Bytes that autograd keeps for the gradient, and the addresses of the memory that they lie in."""
    saved = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(t) or t, lambda t: t):
        y = function()
    return y, sum(t.numel() * t.element_size() for t in saved), {t.untyped_storage().data_ptr() for t in saved}


@pytest.mark.parametrize('layout', FORMATS)
@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
def test_keeps_one_feature_map(backend, dtype, layout):
    x, scale, shift, residual = make_inputs((2, 64, 28, 28), dtype, layout, residual=True)
    size = x.numel() * x.element_size()
    for arguments in ({}, {'residual': residual}):
        _, bytes_, places = saved_bytes(lambda a=arguments: norm_gate(x, scale, shift, **a))
        assert bytes_ <= 1.05 * size
        assert x.untyped_storage().data_ptr() in places
        assert residual.untyped_storage().data_ptr() not in places
    # With ReLU the output is kept too: the memory that the next convolution keeps as its input.
    y, bytes_, places = saved_bytes(lambda: norm_gate(x, scale, shift, residual=residual, activation='relu'))
    assert bytes_ <= 2.05 * size
    assert y.untyped_storage().data_ptr() in places
    next_conv = nn.Conv2d(64, 8, 1).to(dtype)
    _, _, next_places = saved_bytes(lambda: next_conv(y))
    assert y.untyped_storage().data_ptr() in next_places


def test_under_the_transforms_of_torch_func():
    x, scale, shift = (t.detach() for t in make_inputs((2, 3, 4, 4), torch.float64))
    loss = lambda function: lambda *inputs: function(*inputs, activation='relu').square().sum()  # noqa: E731
    for transform in (
        lambda f: torch.func.grad(f, argnums=(0, 1, 2)),
        lambda f: torch.func.hessian(f, argnums=1),
        lambda f: torch.func.vmap(torch.func.grad(f), in_dims=(0, None, None)),
    ):
        inputs = (torch.stack([x, 2 * x]), scale, shift)
        if 'vmap' not in transform.__code__.co_names:
            inputs = (x, scale, shift)
        torch.testing.assert_close(transform(loss(norm_gate))(*inputs), transform(loss(plain))(*inputs))


def test_second_derivatives_are_refused():
    x, scale, shift = make_inputs((1, 2, 3, 3))
    (gradient,) = torch.autograd.grad(norm_gate(x, scale, shift).sum(), x, create_graph=True)
    with pytest.raises(NotImplementedError, match='norm_gate has no second derivatives'):
        gradient.sum().backward()


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_under_autocast(dtype):
    gate = Gate(residual=True, activation='relu')
    x = torch.randn(2, 3, 12, 12)
    expected = gate(x)
    with torch.autocast('cpu', dtype):
        y = gate(x)
    assert y.dtype == dtype
    torch.testing.assert_close(y.float(), expected, rtol=0, atol=0.05 * expected.abs().max().item())
    y.float().sum().backward()
    assert gate.scale.grad.dtype == torch.float32 and gate.scale.grad.isfinite().all()


@pytest.mark.parametrize('tail', TAILS)
def test_deepcopy_checkpointing_and_inference_mode(tail):
    gate, x = Gate(*tail), torch.randn(2, 3, 8, 8, requires_grad=True)
    expected = gate(x)
    twin = copy.deepcopy(gate)
    with torch.inference_mode():
        torch.testing.assert_close(twin(x), expected, rtol=0, atol=0)
    expected.sum().backward()
    checkpoint(twin, x, use_reentrant=False).sum().backward()
    for mine, theirs in zip(twin.parameters(), gate.parameters()):
        torch.testing.assert_close(mine.grad, theirs.grad)


@pytest.mark.parametrize('layout', FORMATS)
@pytest.mark.parametrize('tail', TAILS)
def test_opcheck(layout, tail):
    x, scale, shift, *residual = make_inputs((2, 4, 5, 3), layout=layout, residual=tail[0])
    residual, relu = residual[0] if residual else None, tail[1] is not None
    vectors = None, None, scale, shift, 'l2', 1e-5
    arguments = (x, *vectors, residual, relu, *NO_NORM)
    y, moments, _ = (t.detach() for t in OPERATOR(*arguments))
    for operator, given in (
        (OPERATOR, arguments),
        (BACKWARD, (y, x, y if relu else None, moments, relu and tail[0], *vectors, *NO_NORM)),
    ):
        detached = tuple(t.detach() if torch.is_tensor(t) else t for t in given)
        given = given if operator is OPERATOR else detached
        assert set(opcheck(operator, given).values()) == {'SUCCESS'}


def test_export_and_names():
    gate, x = Gate(True, 'relu').eval(), torch.randn(2, 3, 8, 8)
    program = torch.export.export(gate, (x,), dynamic_shapes=({0: torch.export.Dim('batch', min=1)},))
    assert OPERATOR in [node.target for node in program.run_decompositions().graph.nodes]
    more = torch.randn(5, 3, 8, 8)
    torch.testing.assert_close(program.module()(more), gate(more))
    torch.testing.assert_close(torch.jit.trace(gate, x)(more), gate(more))
    with FlopCounterMode(display=False) as counter, torch.profiler.profile() as profile:
        gate(x).sum().backward()
    assert torch.ops.ean_mmdet.batch_norm_gate in counter.get_flop_counts()['Gate']
    profiled = {event.key for event in profile.key_averages()}
    assert {'ean_mmdet::batch_norm_gate', 'ean_mmdet::batch_norm_gate_backward'} <= profiled


@needs_compiler
@pytest.mark.parametrize('layout', FORMATS)
def test_compiles_without_a_graph_break(layout):
    torch.compiler.reset()
    gate = Gate(True, 'relu')
    compiled = torch.compile(copy.deepcopy(gate), fullgraph=True)
    x = torch.randn(2, 3, 6, 6).to(memory_format=FORMATS[layout])
    for model in (gate, compiled):
        model(x).square().sum().backward()
    torch.testing.assert_close(compiled(x), gate(x))
    with torch.no_grad():  # by an operator of its own, where there are compiled kernels
        torch.testing.assert_close(compiled(x), gate(x))
        torch.testing.assert_close(torch.compile(gate.double(), fullgraph=True)(x.double()), gate(x.double()))
    gate.float()
    for mine, theirs in zip(compiled.parameters(), gate.parameters()):
        torch.testing.assert_close(mine.grad, theirs.grad, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('memory_format', [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize('side', [3, 70])
def test_output_may_be_changed_in_place(backend, side, memory_format):
    """As MMDetection's blocks do: ``out += identity``."""
    x, vector = torch.randn(2, 32, side, side).to(memory_format=memory_format).requires_grad_(), torch.ones(32)
    y = norm_gate(x, vector, vector)
    y += x
    y.sum().backward()
    in_place, x.grad = x.grad, None
    (norm_gate(x, vector, vector) + x).sum().backward()
    torch.testing.assert_close(in_place, x.grad)
