"""Against loops that follow the definitions, box by box."""

import mmcv.ops
import numpy as np
import pytest
import torch

pytestmark = pytest.mark.usefixtures('without_compiler')


def boxes_and_scores(count, dtype=torch.float32):
    corner = torch.rand(count, 2, dtype=dtype) * 50
    boxes = torch.cat([corner, corner + torch.rand(count, 2, dtype=dtype) * 40], dim=1)
    return boxes, torch.randperm(count).to(dtype) / count


def iou(a, b, offset=0):
    width, height = (min(a[i + 2], b[i + 2]) - max(a[i], b[i]) + offset for i in (0, 1))
    area = [(box[2] - box[0] + offset) * (box[3] - box[1] + offset) for box in (a, b)]
    shared = max(width, 0) * max(height, 0)
    return shared / (sum(area) - shared)


def greedy(boxes, scores, threshold, offset=0):
    kept = []
    for i in scores.argsort(descending=True).tolist():
        if all(iou(boxes[i].tolist(), boxes[j].tolist(), offset) <= threshold for j in kept):
            kept.append(i)
    return kept


@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
@pytest.mark.parametrize('offset', [0, 1])
def test_nms(offset, dtype):
    boxes, scores = boxes_and_scores(60, dtype)
    dets, kept = mmcv.ops.nms(boxes, scores, 0.3, offset)
    assert kept.tolist() == greedy(boxes, scores, 0.3, offset) and 5 < len(kept) < 55
    assert torch.equal(dets, torch.cat([boxes, scores[:, None]], dim=1)[kept])
    of_numpy = mmcv.ops.nms(boxes.numpy(), scores.numpy(), 0.3, offset)
    assert isinstance(of_numpy[0], np.ndarray) and np.array_equal(of_numpy[1], kept)


def test_an_overlap_of_exactly_the_threshold_is_kept():
    boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 3]])  # 0.3 in float32 is more than 0.3
    assert mmcv.ops.nms(boxes, torch.tensor([0.9, 0.8]), 0.3)[1].tolist() == [0, 1]


def test_of_no_boxes():
    boxes, scores = boxes_and_scores(0)
    assert mmcv.ops.nms(boxes, scores, 0.3)[0].shape == (0, 5)
    assert mmcv.ops.soft_nms(boxes, scores)[0].shape == (0, 5)
    assert mmcv.ops.nms_match(torch.zeros(0, 5), 0.3) == []


@pytest.mark.parametrize('settings', [{}, dict(class_agnostic=True), dict(split_thr=10)])
def test_batched_nms(settings):
    boxes, scores = boxes_and_scores(60)
    labels = torch.arange(60) % 3
    expected = (
        greedy(boxes, scores, 0.3)
        if 'class_agnostic' in settings
        else [
            index
            for label in range(3)
            for index in (labels == label).nonzero()[:, 0][greedy(boxes[label::3], scores[label::3], 0.3)].tolist()
        ]
    )
    kept = mmcv.ops.batched_nms(boxes, scores, labels, dict(type='nms', iou_threshold=0.3, **settings))[1]
    assert sorted(kept.tolist()) == sorted(expected)
    assert torch.equal(scores[kept], scores[kept].sort(descending=True)[0])


@pytest.mark.parametrize('method', ['naive', 'linear', 'gaussian'])
def test_soft_nms(method):
    boxes, scores = boxes_and_scores(40, torch.float64)
    left, found = {i: float(score) for i, score in enumerate(scores)}, []
    while left:
        best = max(left, key=left.get)
        found.append((best, left.pop(best)))
        for i in list(left):
            overlap = iou(boxes[best].tolist(), boxes[i].tolist(), 1)
            weight = np.exp(-(overlap**2) / 0.5)
            if method != 'gaussian':
                weight = 1 if overlap < 0.3 else 0 if method == 'naive' else 1 - overlap
            left[i] *= weight
            if left[i] < 0.05:
                del left[i]
    dets, kept = mmcv.ops.soft_nms(boxes, scores, 0.3, 0.5, 0.05, method, offset=1)
    assert kept.tolist() == [i for i, _ in found] and 5 < len(kept) < 40
    torch.testing.assert_close(dets[:, 4], torch.tensor([score for _, score in found], dtype=torch.float64))
    assert torch.equal(dets[:, :4], boxes[kept])


def test_nms_match():
    boxes, scores = boxes_and_scores(40)
    groups = [group.tolist() for group in mmcv.ops.nms_match(torch.cat([boxes, scores[:, None]], dim=1), 0.3)]
    assert [group[0] for group in groups] == greedy(boxes, scores, 0.3)
    assert sorted(index for group in groups for index in group) == list(range(40))
    for group in groups:
        assert all(iou(boxes[group[0]].tolist(), boxes[i].tolist()) >= 0.3 for i in group[1:])
        assert scores[group].tolist() == sorted(scores[group].tolist(), reverse=True)


def test_nms_of_rotated_boxes():
    # a square, itself turned by a quarter, and turned by an eighth: an octagon is shared, IoU 0.707
    boxes = torch.tensor([[50, 50, 20, 20, 0], [50, 50, 20, 20, torch.pi / 2], [50, 50, 20, 20, torch.pi / 4]])
    scores = torch.tensor([0.7, 0.8, 0.9])
    assert mmcv.ops.nms_rotated(boxes, scores, 0.70)[1].tolist() == [2]
    assert mmcv.ops.nms_rotated(boxes, scores, 0.71)[1].tolist() == [2, 1]
    assert mmcv.ops.nms_rotated(boxes, scores, 0.70, labels=torch.tensor([0, 1, 1]))[1].tolist() == [2, 0]
