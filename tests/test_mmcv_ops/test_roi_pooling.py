"""RoI pooling against loops over bins and samples, and gradients against finite differences."""

import math

import mmcv.ops
import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch.autograd import gradcheck

pytestmark = pytest.mark.usefixtures('without_compiler')

ROIS = torch.tensor([[0, 3.0, 5, 50, 40], [1, -9, -3, 12, 70], [0, 20, 20, 20.5, 21], [1, 60, 30, 90, 99]])


def value(plane, y, x):
    """RoIAlign's bilinear sample of one plane."""
    height, width = plane.shape
    if not (-1 <= y <= height and -1 <= x <= width):
        return 0.0
    y, x = min(max(y, 0), height - 1), min(max(x, 0), width - 1)
    top, left = min(int(y), height - 1), min(int(x), width - 1)
    bottom, right = min(top + 1, height - 1), min(left + 1, width - 1)
    upper = plane[top, left] * (1 - x + left) + plane[top, right] * (x - left)
    lower = plane[bottom, left] * (1 - x + left) + plane[bottom, right] * (x - left)
    return float(upper * (1 - y + top) + lower * (y - top))


def samples(plane, roi, scale, bins, ratio, aligned, i, j):
    """The samples of bin i, j of one RoI."""
    x1, y1, x2, y2 = (float(v) * scale - 0.5 * aligned for v in roi[1:])
    width, height = x2 - x1, y2 - y1
    if not aligned:
        width, height = max(width, 1), max(height, 1)
    height, width = height / bins[0], width / bins[1]
    down, across = (ratio, ratio) if ratio else (math.ceil(height), math.ceil(width))
    return [
        value(plane, y1 + (i + (a + 0.5) / down) * height, x1 + (j + (b + 0.5) / across) * width)
        for a in range(down)
        for b in range(across)
    ]


@pytest.mark.parametrize('aligned', [True, False])
@pytest.mark.parametrize('ratio', [0, 2])
@pytest.mark.parametrize(('mode', 'pool'), [('avg', lambda v: sum(v) / len(v)), ('max', max)])
def test_roi_align(mode, pool, ratio, aligned):
    x = torch.randn(2, 2, 9, 13, dtype=torch.float64)
    rois = ROIS.double()
    expected = [
        [[[pool(samples(x[int(r[0]), c], r, 0.2, (3, 2), ratio, aligned, i, j)) for j in (0, 1)] for i in (0, 1, 2)]
         for c in (0, 1)]
        for r in rois
    ]  # fmt: skip
    actual = mmcv.ops.roi_align(x, rois, (3, 2), 0.2, ratio, mode, aligned)
    torch.testing.assert_close(actual, torch.tensor(expected, dtype=torch.float64))
    if mode == 'avg':
        assert torch.equal(actual, torchvision.ops.roi_align(x, rois, (3, 2), 0.2, ratio, aligned))


@pytest.mark.parametrize('mode', ['avg', 'max'])
def test_roi_align_gradient(mode):
    x = torch.randn(2, 2, 6, 7, dtype=torch.float64, requires_grad=True)
    assert gradcheck(lambda x: mmcv.ops.roi_align(x, ROIS.double(), (2, 3), 0.1, 2, mode, True), x)


def test_of_halves():
    x, rois = torch.randn(2, 2, 9, 13).bfloat16(), ROIS.bfloat16()
    expected = mmcv.ops.roi_align(x.float(), rois.float(), 2, 0.25, 2, 'max', True)
    with torch.autocast('cpu', torch.bfloat16):
        actual = mmcv.ops.roi_align(x, rois, 2, 0.25, 2, 'max', True)
    assert actual.dtype == torch.bfloat16
    torch.testing.assert_close(actual.float(), expected, rtol=0.05, atol=0.05)


def test_a_roi_without_area_has_no_maximum():
    x = torch.ones(1, 1, 4, 4)
    for boxes in (torch.tensor([[0, 1.0, 1, 1, 1]]), torch.zeros(0, 5)):
        assert (mmcv.ops.roi_align(x, boxes, 2, 1, 0, 'max', True) == torch.zeros(len(boxes), 1, 2, 2)).all()


def test_roi_pool():
    """The largest pixel that a bin touches; bins aren't rounded, x2 and y2 are the last pixel inside."""
    x = torch.randn(2, 3, 9, 13, dtype=torch.float64, requires_grad=True)
    rois = torch.cat([ROIS.double(), torch.tensor([[0, 30.0, 30, 8, 40]])])  # the last one is inside out
    expected = torch.zeros(5, 3, 3, 2, dtype=torch.float64)
    for k, (image, x1, y1, x2, y2) in enumerate(rois.tolist()):
        x1, y1, width, height = x1 * 0.2, y1 * 0.2, (x2 + 1 - x1) * 0.2, (y2 + 1 - y1) * 0.2
        for i in range(3):
            for j in range(2):
                top, bottom = math.floor(y1 + i * height / 3), math.ceil(y1 + (i + 1) * height / 3)
                left, right = math.floor(x1 + j * width / 2), math.ceil(x1 + (j + 1) * width / 2)
                part = x[int(image), :, max(top, 0) : max(bottom, 0), max(left, 0) : max(right, 0)]
                if width > 0 and height > 0 and part.numel():
                    expected[k, :, i, j] = part.amax((1, 2))
    actual = mmcv.ops.roi_pool(x, rois, (3, 2), 0.2)
    torch.testing.assert_close(actual, expected.detach())
    assert (actual[4] == 0).all() and (actual[:4] != 0).any()
    cotangent = torch.randn_like(actual)
    torch.testing.assert_close(
        torch.autograd.grad(actual, x, cotangent), torch.autograd.grad(expected, x, cotangent), rtol=0, atol=1e-12
    )


def test_deformable_pooling_with_offsets_of_zero_is_roi_align():
    x, rois = torch.randn(2, 2, 9, 13, dtype=torch.float64), ROIS.double()
    for ratio in (0, 2):
        expected = torchvision.ops.roi_align(x, rois, (3, 2), 0.2, ratio, True)
        for offset in (None, torch.zeros(4, 2, 3, 2, dtype=torch.float64)):
            torch.testing.assert_close(mmcv.ops.deform_roi_pool(x, rois, offset, (3, 2), 0.2, ratio, 0.1), expected)


def test_deformable_pooling_moves_bins():
    x, rois = torch.randn(1, 2, 20, 20, dtype=torch.float64), torch.tensor([[0, 4.0, 6, 12, 10]]).double()
    offset = torch.zeros(1, 2, 2, 2, dtype=torch.float64)
    offset[:, 0], offset[:, 1] = 1.5, -2  # in parts of the RoI by gamma: 1.2 pixels right, 0.8 up
    moved = rois + torch.tensor([0, 1.2, -0.8, 1.2, -0.8])
    torch.testing.assert_close(
        mmcv.ops.deform_roi_pool(x, rois, offset, 2, 1.0, 2, 0.1), torchvision.ops.roi_align(x, moved, 2, 1.0, 2, True)
    )


def test_deformable_pooling_gradient():
    x = torch.randn(1, 2, 12, 12, dtype=torch.float64, requires_grad=True)
    rois = torch.tensor([[0, 2.0, 2, 9, 8.5], [0, 3, 1, 7, 9]]).double()
    offset = torch.rand(2, 2, 2, 2, dtype=torch.float64).requires_grad_()
    assert gradcheck(lambda x, offset: mmcv.ops.deform_roi_pool(x, rois, offset, 2, 1.0, 2, 0.1), (x, offset))


def test_precise_pooling():
    """The integral of the bilinear surface, here by many samples."""
    x = torch.randn(1, 2, 8, 9)
    rois = torch.tensor([[0, 1.3, 2.2, 6.7, 5.1], [0, 3, 3, 3, 3]])
    fine = 200
    y, x_ = (torch.linspace(a, b, 2 * fine + 1)[1::2] for a, b in ((2.2, 5.1), (1.3, 6.7)))
    grid = torch.stack(torch.meshgrid(x_ / 8 * 2 - 1, y / 7 * 2 - 1, indexing='xy'), dim=-1)
    surface = F.grid_sample(x, grid[None], align_corners=True)
    expected = surface.unflatten(2, (2, -1)).unflatten(4, (2, -1)).mean((3, 5))
    actual = mmcv.ops.prroi_pool(x, rois, (2, 2), 1.0)
    torch.testing.assert_close(actual[:1], expected, rtol=1e-3, atol=1e-4)
    assert (actual[1] == 0).all()


def test_precise_pooling_gradients():
    """Of features and boxes; mmcv's function takes float32 alone, so that the steps are wide."""
    x = torch.randn(1, 1, 6, 6, requires_grad=True)
    rois = torch.tensor([[0, 1.27, 0.77, 4.31, 3.63]], requires_grad=True)
    assert gradcheck(
        lambda x, rois: mmcv.ops.prroi_pool(x, rois, (2, 2), 1.0), (x, rois), eps=1e-2, atol=1e-2, rtol=1e-2
    )
