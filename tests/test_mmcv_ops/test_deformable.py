"""Deformable convolution and attention against plain PyTorch."""

import pytest
import torch
import torch.nn.functional as F
from mmcv.ops.deform_conv import DeformConv2d, DeformConv2dPack
from mmcv.ops.modulated_deform_conv import ModulatedDeformConv2d
from mmcv.ops.multi_scale_deform_attn import MultiScaleDeformableAttnFunction
from torch.autograd import gradcheck

pytestmark = pytest.mark.usefixtures('without_compiler')


def test_without_offsets_it_is_a_convolution():
    x = torch.randn(2, 4, 9, 7, requires_grad=True)
    for layer, rest in (
        (DeformConv2d(4, 6, 3, 2, padding=1, groups=2), ()),
        (ModulatedDeformConv2d(4, 6, 3, 2, padding=1, groups=2), (torch.full((2, 9, 5, 4), 0.5),)),
    ):
        y = layer(x, torch.zeros(2, 18, 5, 4), *rest)
        expected = F.conv2d(x, layer.weight, None, 2, 1, 1, 2) * (0.5 if rest else 1)
        torch.testing.assert_close(y, expected, rtol=1e-4, atol=1e-5)
        cotangent = torch.randn_like(y)
        inputs = (x, layer.weight)
        torch.testing.assert_close(
            torch.autograd.grad(y, inputs, cotangent),
            torch.autograd.grad(expected, inputs, cotangent),
            rtol=1e-4,
            atol=1e-4,
        )


def test_offsets_of_whole_pixels_move_the_input():
    layer, x = DeformConv2d(3, 5, 3), torch.randn(1, 3, 10, 10)
    offset = torch.zeros(1, 9, 2, 8, 8)
    offset[:, :, 0], offset[:, :, 1] = 1, 2  # down, right
    moved = F.pad(x, (0, 2, 0, 1))[..., 1:, 2:]
    torch.testing.assert_close(layer(x, offset.flatten(1, 2)), F.conv2d(moved, layer.weight))


@pytest.mark.parametrize('modulated', [False, True])
def test_gradients(modulated):
    layer = (ModulatedDeformConv2d if modulated else DeformConv2d)(2, 2, 2, deform_groups=2).double()
    shapes = [(1, 2, 4, 4), (1, 16, 3, 3), *([(1, 8, 3, 3)] if modulated else [])]
    inputs = [torch.rand(shape, dtype=torch.float64).requires_grad_() for shape in shapes]
    names = [name for name, _ in layer.named_parameters()]

    def run(*tensors):
        inputs, parameters = tensors[: len(shapes)], dict(zip(names, tensors[len(shapes) :]))
        return torch.func.functional_call(layer, parameters, inputs)

    assert gradcheck(run, (*inputs, *layer.parameters()))


@pytest.mark.parametrize('value', [float('nan'), float('inf'), -1e30])
def test_offsets_that_are_no_places_are_outside(value):
    """As in a run that diverges; torchvision's operator ends the process at NaN."""
    layer, x = DeformConv2d(1, 1, 1), torch.randn(1, 1, 4, 4, requires_grad=True)
    offset = torch.zeros(1, 2, 4, 4)
    offset[0, 1, 2, 3] = value
    offset.requires_grad_()
    y = layer(x, offset)
    y.sum().backward()
    expected = x * layer.weight
    assert y[0, 0, 2, 3] == 0 and x.grad[0, 0, 2, 3] == 0 and x.grad.isfinite().all()
    assert offset.grad.isfinite().all() and (offset.grad[0, :, 2, 3] == 0).all()
    assert torch.equal(y[0, 0, :2], expected[0, 0, :2])


def test_channels_last():
    layer = DeformConv2dPack(3, 4, 3, padding=1)
    torch.nn.init.normal_(layer.conv_offset.weight, std=0.1)
    x, results = torch.randn(2, 3, 6, 7), []
    for memory_format in (torch.contiguous_format, torch.channels_last):
        z = x.clone(memory_format=memory_format).requires_grad_()
        layer.to(memory_format=memory_format).zero_grad()
        y = layer(z)
        y.square().sum().backward()
        results.append((y.detach(), z.grad, layer.conv_offset.weight.grad.clone()))
    torch.testing.assert_close(*results, rtol=1e-4, atol=1e-4)


def test_a_second_backward_pass_is_the_first():
    layer, x = DeformConv2d(2, 2, 3), torch.randn(1, 2, 6, 6)
    loss = layer(x.requires_grad_(), torch.rand(1, 18, 4, 4)).sum()
    first = torch.autograd.grad(loss, layer.parameters(), retain_graph=True)
    assert torch.equal(first[0], torch.autograd.grad(loss, layer.parameters())[0])


def test_a_tap_in_the_padding_has_no_gradient_at_the_start():
    layer, x = DeformConv2dPack(1, 1, 3, padding=1), torch.randn(1, 1, 1, 1, requires_grad=True)
    layer(x).sum().backward()
    bias = layer.conv_offset.bias.grad.view(3, 3, 2)
    assert (bias[0] == 0).all() and (bias[2] == 0).all() and (bias[:, 0] == 0).all()


def test_attention():
    """Each query's value is the weighted sum of samples from all levels."""
    shapes = torch.tensor([[4, 6], [2, 3]])
    value = torch.randn(2, 30, 2, 3, dtype=torch.float64, requires_grad=True)
    locations = torch.rand(2, 5, 2, 2, 4, 2, dtype=torch.float64, requires_grad=True)
    weights = torch.rand(2, 5, 2, 2, 4, dtype=torch.float64, requires_grad=True)
    expected = 0
    for level, start, (height, width) in ((0, 0, (4, 6)), (1, 24, (2, 3))):
        part = value[:, start : start + height * width].permute(0, 2, 3, 1).reshape(4, 3, height, width)
        grid = locations[:, :, :, level].transpose(1, 2).flatten(0, 1) * 2 - 1
        found = F.grid_sample(part, grid, align_corners=False).view(2, 2, 3, 5, 4)
        expected = expected + (found * weights[:, :, :, level].transpose(1, 2)[:, :, None]).sum(-1)
    expected = expected.permute(0, 3, 1, 2).flatten(2)
    inputs = (value, locations, weights)
    actual = MultiScaleDeformableAttnFunction.apply(value, shapes, torch.tensor([0, 24]), locations, weights, 64)
    torch.testing.assert_close(actual, expected)
    cotangent = torch.randn_like(actual)
    torch.testing.assert_close(
        torch.autograd.grad(actual, inputs, cotangent), torch.autograd.grad(expected, inputs, cotangent)
    )
