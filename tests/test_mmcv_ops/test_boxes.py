"""Against the formula on plain numbers, and areas that geometry gives."""

import mmcv.ops
import pytest
import torch
from torchvision.ops import box_iou

pytestmark = pytest.mark.usefixtures('without_compiler')


def test_bbox_overlaps():
    boxes = torch.tensor([[0.0, 0, 9, 9], [5, 5, 14, 9]])
    torch.testing.assert_close(mmcv.ops.bbox_overlaps(boxes, boxes), box_iou(boxes, boxes))
    # 10 × 10 and 10 × 5 pixels that share 5 × 5
    assert mmcv.ops.bbox_overlaps(boxes, boxes, offset=1)[0, 1] == 0.2
    assert mmcv.ops.bbox_overlaps(boxes, boxes, mode='iof', offset=1)[1, 0] == 0.5
    assert mmcv.ops.bbox_overlaps(boxes, boxes.flip(0), aligned=True, offset=1).tolist() == pytest.approx([0.2, 0.2])
    assert mmcv.ops.bbox_overlaps(boxes[:0], boxes).shape == (0, 2)


def test_rotated_boxes_that_are_upright():
    corner = torch.rand(40, 2) * 10
    boxes = torch.cat([corner, corner + torch.rand(40, 2) * 10], dim=1)
    rotated = torch.cat([(boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2], torch.zeros(40, 1)], dim=1)
    torch.testing.assert_close(mmcv.ops.box_iou_rotated(rotated, rotated), box_iou(boxes, boxes), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('angle', [0.0, 0.3, torch.pi / 4, torch.pi / 2, 4.0])
def test_rotated_boxes_turned_together(angle):
    """Overlaps stay when both boxes are turned around the origin."""
    first, second = torch.tensor([[3.0, 1, 8, 4, 0.2]]), torch.tensor([[4.0, 2, 5, 5, -0.7]])
    expected = mmcv.ops.box_iou_rotated(first, second)
    turned = []
    for box in (first, second):
        x, y = box[0, 0], box[0, 1]
        cos, sin = torch.cos(torch.tensor(angle)), torch.sin(torch.tensor(angle))
        turned.append(torch.stack([x * cos - y * sin, x * sin + y * cos, *box[0, 2:4], box[0, 4] + angle])[None])
    torch.testing.assert_close(mmcv.ops.box_iou_rotated(*turned), expected)


def test_rotated_squares():
    square = torch.tensor([[0.0, 0, 2, 2, 0]])
    octagon = 8 * (2**0.5 - 1)  # what a square shares with itself, turned by an eighth
    diamond = torch.tensor([[0.0, 0, 2, 2, torch.pi / 4]])
    torch.testing.assert_close(mmcv.ops.box_iou_rotated(square, diamond).item(), octagon / (8 - octagon))
    torch.testing.assert_close(mmcv.ops.box_iou_rotated(square, diamond, mode='iof').item(), octagon / 4)
    inner = torch.tensor([[0.1, 0, 0.5, 0.5, 0.5]])
    torch.testing.assert_close(mmcv.ops.box_iou_rotated(square, inner, aligned=True), torch.tensor([0.25 / 4]))
    assert mmcv.ops.box_iou_rotated(square, torch.tensor([[5.0, 0, 2, 2, 1]])).item() == 0
    assert mmcv.ops.box_iou_rotated(square, square).item() == pytest.approx(1)
