import copy
import itertools

import pytest
import torch
from torch import nn

from ean_mmdet.ops import WEIGHT_NORMS, ean_gate
from tests.conftest import needs_compiler
from tests.reference import plain_ean

TAILS = [(False, None), (True, None), (False, 'relu'), (True, 'relu')]
FORMATS = {'contiguous': torch.contiguous_format, 'channels_last': torch.channels_last}


def make_inputs(shape=(2, 6, 5, 4), groups=2, dtype=torch.float64, layout='contiguous', residual=False):
    """x, the four vectors and perhaps a residual, wanting gradients."""
    maps = [torch.randn(shape).to(dtype, memory_format=FORMATS[layout]) for _ in range(1 + residual)]
    vectors = [torch.randn(shape[1] // groups, dtype=torch.promote_types(dtype, torch.float32)) for _ in range(4)]
    return [t.requires_grad_() for t in (maps[0], *vectors, *maps[1:])]


def gate(inputs, activation=None, weight_norm='l2', eps=1e-5):
    return ean_gate(*inputs[:5], weight_norm, eps, inputs[5] if len(inputs) > 5 else None, activation)


def plain(inputs, activation=None, weight_norm='l2', eps=1e-5):
    x, weight = inputs[:2]
    y = plain_ean(*inputs[:5], x.shape[1] // len(weight), weight_norm, eps)
    y = y + inputs[5] if len(inputs) > 5 else y
    return y.relu() if activation else y


@pytest.mark.parametrize('layout', FORMATS)
@pytest.mark.parametrize(('residual', 'activation'), TAILS)
@pytest.mark.parametrize('weight_norm', WEIGHT_NORMS)
def test_values_and_gradients(weight_norm, residual, activation, layout):
    inputs = make_inputs(layout=layout, residual=residual)
    mine, theirs = (function(inputs, activation, weight_norm) for function in (gate, plain))
    torch.testing.assert_close(mine, theirs)
    assert mine.is_contiguous(memory_format=FORMATS[layout])
    upstream = torch.randn_like(mine)
    torch.testing.assert_close(*(torch.autograd.grad(y, inputs, upstream) for y in (mine, theirs)))
    with torch.no_grad():
        torch.testing.assert_close(gate(inputs, activation, weight_norm), theirs.detach())


@pytest.mark.parametrize('weight_norm', WEIGHT_NORMS)
def test_gradcheck(weight_norm):
    inputs = make_inputs(residual=True)
    assert torch.autograd.gradcheck(lambda *inputs: gate(inputs, 'relu', weight_norm), inputs)


@pytest.mark.parametrize('wanted', range(6))
def test_gradient_of_one_input_alone(wanted):
    inputs = [t.detach() for t in make_inputs(residual=True)]
    inputs[wanted].requires_grad_()
    mine, theirs = (function(inputs, 'relu') for function in (gate, plain))
    torch.testing.assert_close(*(torch.autograd.grad(y.square().sum(), inputs[wanted]) for y in (mine, theirs)))


def test_keeps_one_feature_map():
    inputs = make_inputs((2, 64, 28, 28), groups=8, dtype=torch.float32)
    saved = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(t) or t, lambda t: t):
        gate(inputs)
    assert sum(t.nbytes for t in saved) <= 1.05 * inputs[0].nbytes


def test_second_derivatives_are_refused():
    inputs = make_inputs()
    for gradient in torch.autograd.grad(gate(inputs).sum(), inputs, create_graph=True):
        with pytest.raises(NotImplementedError, match='has no second derivatives'):
            gradient.sum().backward(retain_graph=True)


def test_half_precision_is_folded_in_float32():
    inputs = [t.detach().half() for t in make_inputs()]
    # Σ γ² = 3 · 300² is more than half precision holds.
    inputs[1].fill_(300)
    inputs[3].div_(300)
    y = gate(inputs)
    assert y.dtype == torch.float16
    torch.testing.assert_close(y.double(), plain([t.double() for t in inputs]), rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize('layout', FORMATS)
def test_mixed_types(layout):
    """Every input in float32 or float64: the result has the wider type of the maps, gradients that of their input."""
    random = make_inputs(layout=layout, residual=True)
    for dtypes in itertools.product([torch.float32, torch.float64], repeat=6):
        inputs = [t.detach().to(dtype).requires_grad_() for t, dtype in zip(random, dtypes)]
        exact = [t.detach().double().requires_grad_() for t in inputs]
        y, expected = gate(inputs, 'relu'), plain(exact, 'relu')
        assert y.dtype == torch.promote_types(dtypes[0], dtypes[5])
        tolerance = 1e-9 if y.dtype == torch.float64 else 1e-4
        torch.testing.assert_close(y.double(), expected, rtol=tolerance, atol=tolerance)
        for mine, theirs, of in zip(
            *(torch.autograd.grad(r.sum(), i) for r, i in ((y, inputs), (expected, exact))), inputs
        ):
            assert mine.dtype == of.dtype
            torch.testing.assert_close(mine.double(), theirs, rtol=1e-4, atol=1e-4)


def test_half_parameters_and_mixed_residual():
    x, *vectors, residual = make_inputs(dtype=torch.float32, residual=True)
    inputs = [t.detach().half().requires_grad_() for t in (x, *vectors)] + [residual]
    exact = [t.detach().float().requires_grad_() for t in inputs]
    y, expected = gate(inputs, 'relu'), plain(exact, 'relu')
    assert y.dtype == torch.float32
    torch.testing.assert_close(y, expected, rtol=1e-4, atol=1e-4)
    gradients = (torch.autograd.grad(result.sum(), of) for result, of in ((y, inputs), (expected, exact)))
    for mine, theirs, value in zip(*gradients, inputs):
        assert mine.dtype == value.dtype
        torch.testing.assert_close(mine.float(), theirs, rtol=1e-2, atol=1e-2)


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(4, 8, 1)
        self.vectors = nn.ParameterList(torch.randn(4) for _ in range(4))

    def forward(self, x):
        return ean_gate(self.conv(x), *self.vectors, residual=x.repeat(1, 2, 1, 1), activation='relu')


@needs_compiler
@pytest.mark.slow
def test_compiles_without_a_graph_break_and_exports():
    torch.compiler.reset()
    block, x = Block(), torch.randn(2, 4, 6, 6)
    compiled = torch.compile(copy.deepcopy(block), fullgraph=True)
    for model in (block, compiled):
        model(x).square().sum().backward()
    for mine, theirs in zip(compiled.parameters(), block.parameters()):
        torch.testing.assert_close(mine.grad, theirs.grad, rtol=1e-4, atol=1e-5)
    program = torch.export.export(block.eval(), (x,))
    targets = [node.target for node in program.run_decompositions().graph.nodes]
    assert torch.ops.ean_mmdet.batch_norm_gate.default in targets
    torch.testing.assert_close(program.module()(x), block(x))


def test_input_is_checked():
    x, *vectors = make_inputs()
    with pytest.raises(ValueError, match=r"weight_norm must be one of l2, rms, l1, got 'l3'"):
        ean_gate(x, *vectors, 'l3')
    with pytest.raises(ValueError, match=r'delta must be of shape .* all of one shape; got \(2,\)'):
        ean_gate(x, *vectors[:3], vectors[3][:2])
    with pytest.raises(ValueError, match=r'6 channels.*got \(4,\)'):
        ean_gate(x, *(torch.ones(4) for _ in range(4)))
