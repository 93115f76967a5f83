"""Non-maximum suppression as one operation, which in ONNX is the standard NonMaxSuppression."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


@torch.library.custom_op('ean_mmdet_deploy::nms_mask', mutates_args=())
def nms_mask(boxes: Tensor, scores: Tensor, iou_threshold: float, score_threshold: float) -> Tensor:
    """Select the boxes to keep, class by class where boxes of other classes lie elsewhere.

    Args:
        boxes: (N, K, 4), two opposite corners each.
        scores: (N, K).
        iou_threshold: A box is dropped whose intersection over union with a better one is above it.
        score_threshold: So is one whose score isn't above this.

    Returns:
        (N, K), 1 for the boxes that are kept and 0 for the others, of the scores' type.
    """
    from torchvision.ops import nms

    kept = torch.zeros_like(scores)
    for image in range(len(scores)):
        candidates = (scores[image] > score_threshold).nonzero()[:, 0]
        chosen = nms(boxes[image, candidates], scores[image, candidates], iou_threshold)
        kept[image, candidates[chosen]] = 1
    return kept


@nms_mask.register_fake
def _(boxes: Tensor, scores: Tensor, iou_threshold: float, score_threshold: float) -> Tensor:
    return torch.empty_like(scores)


def translations() -> dict[Callable, Callable]:
    """The operation in standard ONNX operators, as ``torch.onnx.export`` takes it."""
    from onnxscript import opset18 as op

    def onnx_nms_mask(boxes, scores, iou_threshold: float, score_threshold: float):
        selected = op.NonMaxSuppression(
            boxes,
            op.Unsqueeze(scores, op.Constant(value_ints=[1])),
            op.Constant(value_ints=[2**31 - 1]),
            op.Constant(value_floats=[iou_threshold]),
            op.Constant(value_floats=[score_threshold]),
        )  # (selected, 3): image, class, box
        indices = op.Gather(selected, op.Constant(value_ints=[0, 2]), axis=1)
        zeros = op.Mul(scores, op.Constant(value_float=0.0))
        ones = op.Expand(
            op.Constant(value_float=1.0),
            op.Slice(op.Shape(selected), op.Constant(value_ints=[0]), op.Constant(value_ints=[1])),
        )
        return op.ScatterND(zeros, indices, ones)

    return {torch.ops.ean_mmdet_deploy.nms_mask.default: onnx_nms_mask}
