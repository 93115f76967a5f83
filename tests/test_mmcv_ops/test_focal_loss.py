"""Against the formula under autograd."""

import mmcv.ops
import pytest
import torch
import torch.nn.functional as F
import torchvision

pytestmark = pytest.mark.usefixtures('without_compiler')


@pytest.mark.parametrize('weighted', [False, True])
@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
def test_sigmoid(dtype, weighted):
    x = torch.randn(7, 3, dtype=dtype, requires_grad=True)
    target = torch.tensor([0, 1, 2, 3, 0, 3, 1])  # 3 is the background
    weight = torch.rand(3, dtype=dtype) if weighted else None
    actual = mmcv.ops.sigmoid_focal_loss(x, target, 2.0, 0.25, weight, 'none')
    expected = torchvision.ops.sigmoid_focal_loss(x, F.one_hot(target, 4)[:, :3].to(dtype), 0.25, 2.0)
    if weighted:
        expected = expected * torch.cat([weight, torch.ones(1)])[target][:, None]
    torch.testing.assert_close(actual, expected)
    cotangent = torch.rand_like(actual)
    torch.testing.assert_close(torch.autograd.grad(actual, x, cotangent), torch.autograd.grad(expected, x, cotangent))


@pytest.mark.parametrize('weighted', [False, True])
def test_softmax(weighted):
    x = torch.randn(6, 3, dtype=torch.float64, requires_grad=True)
    target = torch.tensor([0, 1, 2, 2, -1, 1])  # −1 is ignored
    weight = torch.rand(3, dtype=torch.float64) if weighted else None
    each = mmcv.ops.softmax_focal_loss(x, target, 2.0, 0.25, weight, 'none')
    p = x.softmax(1).gather(1, target.clamp(min=0)[:, None])[:, 0]
    expected = -0.25 * (1 - p) ** 2 * p.log() * (target >= 0)
    if weighted:
        expected = expected * weight[target]
    torch.testing.assert_close(each, expected)
    # mmcv's own backward pass is for losses that are reduced
    actual = mmcv.ops.softmax_focal_loss(x, target, 2.0, 0.25, weight, 'sum')
    torch.testing.assert_close(torch.autograd.grad(actual, x), torch.autograd.grad(expected.sum(), x))


def test_certain_predictions_are_finite():
    x = torch.tensor([[200.0, -200.0]], requires_grad=True)
    loss = mmcv.ops.sigmoid_focal_loss(x, torch.tensor([1]), 2.0, 0.25, None, 'sum')
    loss.backward()
    assert loss > 80 and x.grad.isfinite().all()


def test_of_nothing():
    assert mmcv.ops.sigmoid_focal_loss(torch.zeros(0, 3), torch.zeros(0, dtype=torch.long), 2.0, 0.25, None, 'sum') == 0
