import pytest
import torch

from ean_mmdet.ops import norm_gate
from tests.reference import plain_norm_gate


@pytest.mark.parametrize('shape', [(2, 6, 7, 5), (1, 4, 1, 1), (3, 5, 1, 8), (2, 8, 31, 40)])
@pytest.mark.parametrize('memory_format', [torch.contiguous_format, torch.channels_last])
def test_matches_the_plain_formula(shape, memory_format):
    x = torch.randn(shape, dtype=torch.float64).to(memory_format=memory_format).requires_grad_()
    scale, shift = (torch.randn(shape[1], dtype=torch.float64, requires_grad=True) for _ in range(2))
    upstream = torch.randn(shape, dtype=torch.float64)
    y, reference = norm_gate(x, scale, shift), plain_norm_gate(x, scale, shift)
    assert y.is_contiguous(memory_format=memory_format)
    torch.testing.assert_close(y, reference, rtol=1e-10, atol=1e-12)
    for mine, theirs in zip(
        *(torch.autograd.grad((out * upstream).sum(), (x, scale, shift)) for out in (y, reference))
    ):
        torch.testing.assert_close(mine, theirs, rtol=1e-8, atol=1e-10)


def test_shapes_and_types_are_checked():
    x, vector = torch.rand(1, 4, 2, 2), torch.rand(4)
    with pytest.raises(ValueError, match=r'\(N, C, H, W\), got \(4, 2, 2\)'):
        norm_gate(x[0], vector, vector)
    with pytest.raises(ValueError, match=r'shift must be of shape \(C,\) = \(4,\).*got \(3,\)'):
        norm_gate(x, vector, vector[:3])
    with pytest.raises(TypeError, match=r'floating-point type, got torch\.int64'):
        norm_gate(x.long(), vector, vector)


@pytest.mark.parametrize('memory_format', [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize('side', [3, 70])
def test_output_may_be_changed_in_place(side, memory_format):
    """As MMDetection's blocks do: ``out += identity``."""
    x, vector = torch.randn(2, 32, side, side).to(memory_format=memory_format).requires_grad_(), torch.ones(32)
    y = norm_gate(x, vector, vector)
    y += x
    y.sum().backward()
    in_place, x.grad = x.grad, None
    (norm_gate(x, vector, vector) + x).sum().backward()
    torch.testing.assert_close(in_place, x.grad)
