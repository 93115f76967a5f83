"""Operators with a definition of a line or two, against it."""

import mmcv.ops
import pytest
import torch
import torch.nn.functional as F
from mmcv.ops.border_align import border_align
from mmcv.ops.carafe import CARAFENaiveFunction, carafe
from mmcv.ops.masked_conv import MaskedConv2d
from mmcv.ops.psa_mask import PSAMask
from mmcv.ops.tin_shift import tin_shift
from torch.autograd import gradcheck

from tests.test_mmcv_ops.test_roi_pooling import value

pytestmark = pytest.mark.usefixtures('without_compiler')


@pytest.mark.parametrize('function', [carafe, CARAFENaiveFunction.apply])
def test_carafe(function):
    x = torch.randn(2, 4, 3, 5, dtype=torch.float64)
    masks = torch.randn(2, 2 * 9, 6, 10, dtype=torch.float64)
    expected = torch.zeros(2, 4, 6, 10, dtype=torch.float64)
    padded = F.pad(x, (1, 1, 1, 1))
    for row in range(6):
        for column in range(10):
            below = padded[:, :, row // 2 : row // 2 + 3, column // 2 : column // 2 + 3].reshape(2, 2, 2, 9)
            expected[:, :, row, column] = (below * masks[:, :, row, column].view(2, 2, 1, 9)).sum(-1).flatten(1)
    torch.testing.assert_close(function(x, masks, 3, 2, 2), expected)


def test_carafe_gradient():
    x = torch.randn(1, 4, 2, 3, dtype=torch.float64, requires_grad=True)
    masks = torch.randn(1, 2 * 9, 4, 6, dtype=torch.float64, requires_grad=True)
    assert gradcheck(lambda x, masks: carafe(x, masks, 3, 2, 2), (x, masks))


def test_masked_conv():
    layer = MaskedConv2d(3, 4, 3, padding=1).eval()
    x, mask = torch.randn(1, 3, 6, 5), torch.rand(1, 6, 5) > 0.5
    with torch.no_grad():
        expected = F.conv2d(x, layer.weight, layer.bias, padding=1) * mask
        torch.testing.assert_close(layer(x, mask), expected)
        assert (layer(x, torch.zeros(1, 6, 5)) == 0).all()


def test_psa_mask():
    x = torch.randn(1, 3 * 5, 4, 6, dtype=torch.float64, requires_grad=True)
    collected, distributed = (PSAMask(kind, (3, 5))(x) for kind in ('collect', 'distribute'))
    entries = x.detach().view(3, 5, 4, 6)
    for row in range(4):
        for column in range(6):
            expected = torch.zeros(4, 6, dtype=torch.float64)
            for i in range(3):
                for j in range(5):
                    to = (row + i - 1, column + j - 2)
                    if 0 <= to[0] < 4 and 0 <= to[1] < 6:
                        expected[to] = entries[i, j, row, column]
            assert torch.equal(distributed[0, row * 6 + column], expected)
            assert torch.equal(collected[0, :, row, column], expected.flatten())
    for kind in ('collect', 'distribute'):
        assert gradcheck(PSAMask(kind, (3, 5)), x, fast_mode=True)


def test_border_align():
    """The largest of pool_size + 1 samples on each side, each side with channels of its own."""
    x = torch.randn(1, 8, 7, 9, dtype=torch.float64)
    boxes = torch.tensor([[[1.3, 2.1, 6.2, 5.5], [-3.0, 0, 2, 2]]], dtype=torch.float64)
    actual = border_align(x, boxes, 4)
    assert actual.shape == (1, 2, 2, 4)
    for p, (x1, y1, x2, y2) in enumerate(boxes[0].tolist()):
        steps = [i / 4 for i in range(5)]
        sides = (
            [(y1, x1 + (x2 - x1) * t) for t in steps],
            [(y1 + (y2 - y1) * t, x1) for t in steps],
            [(y2, x2 - (x2 - x1) * t) for t in steps],
            [(y2 - (y2 - y1) * t, x2) for t in steps],
        )
        for side, points in enumerate(sides):
            for c in range(2):
                expected = max(value(x[0, side * 2 + c], *point) for point in points)
                assert actual[0, c, p, side].item() == pytest.approx(expected)


def test_border_align_gradient():
    x = torch.randn(2, 4, 5, 6, dtype=torch.float64, requires_grad=True)
    boxes = torch.rand(2, 3, 4, dtype=torch.float64) * 2 + torch.tensor([0, 0, 2, 2])
    assert gradcheck(lambda x: border_align(x, boxes, 3), x)


def test_tin_shift():
    x = torch.randn(1, 4, 4, 2, dtype=torch.float64, requires_grad=True)
    y = tin_shift(x, torch.tensor([[1, -2]], dtype=torch.int))
    assert torch.equal(y[:, 1:, :2], x[:, :-1, :2]) and (y[:, 0, :2] == 0).all()
    assert torch.equal(y[:, :2, 2:], x[:, 2:, 2:]) and (y[:, 2:, 2:] == 0).all()
    assert gradcheck(lambda x: tin_shift(x, torch.tensor([[1, -2]], dtype=torch.int)), x)


def test_criss_cross_attention_and_corner_pooling_need_no_operator():
    assert mmcv.ops.CrissCrossAttention(8)(torch.randn(1, 8, 4, 5)).shape == (1, 8, 4, 5)
    assert mmcv.ops.CornerPool('top')(torch.randn(1, 8, 4, 5)).shape == (1, 8, 4, 5)


def test_synchronized_batch_norm():
    from torch import distributed

    distributed.init_process_group('gloo', store=distributed.HashStore(), rank=0, world_size=1)
    try:
        layer, plain = mmcv.ops.SyncBatchNorm(3), torch.nn.BatchNorm2d(3)
        layer.weight.data.copy_(plain.weight.data.uniform_())
        layer.bias.data.copy_(plain.bias.data.normal_())
        x = torch.randn(4, 3, 5, 2, requires_grad=True)
        y, expected = layer(x), plain(x)
        torch.testing.assert_close(y, expected)
        cotangent = torch.randn_like(y)
        torch.testing.assert_close(
            torch.autograd.grad(y, (x, *layer.parameters()), cotangent),
            torch.autograd.grad(expected, (x, *plain.parameters()), cotangent),
        )
        torch.testing.assert_close(layer.running_mean, plain.running_mean)
        torch.testing.assert_close(layer.running_var, plain.running_var)
    finally:
        distributed.destroy_process_group()
