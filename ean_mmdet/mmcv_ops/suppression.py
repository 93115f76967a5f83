"""Non-maximum suppression: greedy, soft, matched and of rotated boxes."""

import numpy as np
import torch
from torch import Tensor
from torchvision.ops import nms as greedy_nms

from .boxes import rotated_overlaps


def rounded(threshold: float) -> float:
    """The threshold in float32, as mmcv takes it: an IoU of exactly 0.3 in float32 isn't above it."""
    return float(np.float32(threshold))


def nms(boxes: Tensor, scores: Tensor, iou_threshold: float, offset: int) -> Tensor:
    """Indices of the boxes that are kept, by falling score.

    Args:
        boxes: (N, 4), x1, y1, x2, y2 in pixels.
        scores: (N,).
        iou_threshold: A box with more overlap than this with a kept one is left out.
        offset: 0, or 1 where x2 and y2 are the last pixel inside.
    """
    if offset:
        boxes = boxes + boxes.new_tensor([0, 0, offset, offset])
    return greedy_nms(boxes, scores, rounded(iou_threshold))


def overlaps(corners: np.ndarray, areas: np.ndarray, first: int, others: slice, offset: int) -> np.ndarray:
    """IoU of the box ``first`` with ``others``, with (4, N) corners."""
    x1, y1 = np.maximum(corners[:2, others], corners[:2, first, None])
    x2, y2 = np.minimum(corners[2:, others], corners[2:, first, None])
    shared = np.maximum(x2 - x1 + offset, 0) * np.maximum(y2 - y1 + offset, 0)
    with np.errstate(divide='ignore', invalid='ignore'):  # two boxes without area
        return shared / (areas[first] + areas[others] - shared)


def softnms(
    boxes: Tensor,
    scores: Tensor,
    dets: Tensor,
    iou_threshold: float,
    sigma: float,
    min_score: float,
    method: int,
    offset: int,
) -> Tensor:
    """Soft-NMS (Bodla et al. 2017): lower the scores of overlapping boxes. On the CPU, as in mmcv.

    Args:
        boxes: (N, 4).
        scores: (N,).
        dets: (N, 5), filled: the kept boxes with their lowered scores, by falling score.
        iou_threshold: Overlap from which ``method`` 0 and 1 act.
        sigma: Width of the Gaussian, ``method`` 2.
        min_score: Boxes whose score falls below are left out.
        method: 0 sets the score to zero, 1 multiplies it by 1 − IoU, 2 by exp(−IoU² / sigma).
        offset: As in :func:`nms`.

    Returns:
        Indices of the kept boxes.
    """
    # Rows x1, y1, x2, y2, score, in the order of the search. Boxes change places as in mmcv, which decides between
    # equal scores.
    table = torch.cat([boxes, scores[:, None]], dim=1).numpy().T.copy()
    corners = table[:4]
    areas = (corners[2] - corners[0] + offset) * (corners[3] - corners[1] + offset)
    order = np.arange(len(scores))
    count, first, threshold = len(scores), 0, rounded(iou_threshold)
    while first < count:
        best = first + int(table[4, first:count].argmax())
        for values in (table.T, areas, order):
            values[[first, best]] = values[[best, first]]
        rest = slice(first + 1, count)
        iou = overlaps(corners, areas, first, rest, offset)
        if method == 2:
            table[4, rest] *= np.exp(-(iou * iou) / sigma)
        else:
            reached = iou >= threshold
            table[4, rest][reached] *= 0 if method == 0 else 1 - iou[reached]
        # what is left out gives its place to the last that stays
        stays = table[4, rest] >= min_score
        kept = int(np.count_nonzero(stays))
        holes = first + 1 + np.flatnonzero(~stays[:kept])
        movers = first + 1 + kept + np.flatnonzero(stays[kept:])[::-1]
        for values in (table.T, areas, order):
            values[holes] = values[movers]
        first += 1
        count = first + kept
    dets[:count] = torch.from_numpy(table.T[:count].copy())
    return torch.from_numpy(order[:count].copy())


def nms_match(dets: Tensor, iou_threshold: float) -> list[list[int]]:
    """Group boxes with the kept one that suppresses them, kept one first, each group by falling score.

    Args:
        dets: (N, 5), boxes and scores, on the CPU.
        iou_threshold: A box with at least this overlap joins the group.
    """
    order = dets[:, 4].sort(descending=True, stable=True)[1].numpy()
    corners = dets[:, :4].numpy().T[:, order]
    areas = (corners[2] - corners[0]) * (corners[3] - corners[1])
    free = np.ones(len(order), dtype=bool)
    groups, threshold = [], rounded(iou_threshold)
    for first in range(len(order)):
        if not free[first]:
            continue
        rest = slice(first + 1, None)
        joins = free[rest] & (overlaps(corners, areas, first, rest, 0) >= threshold)
        free[rest] &= ~joins
        groups.append([int(order[first]), *order[rest][joins].tolist()])
    return groups


def nms_rotated(
    dets: Tensor,
    scores: Tensor,
    order: Tensor,
    dets_sorted: Tensor,
    labels: Tensor,
    iou_threshold: float,
    multi_label: bool,
) -> Tensor:
    """Indices of the rotated boxes that are kept, by falling score.

    Args:
        dets: Unused here, (N, 5 or 6).
        scores: Unused here, (N,).
        order: Indices by falling score, (N,).
        dets_sorted: x, y of the centre, width, height, angle in radians, and the label where there are labels, in
            this order.
        labels: Unused here.
        iou_threshold: A box with more overlap than this with a kept one is left out.
        multi_label: Boxes with different labels leave each other alone.
    """
    free = torch.ones(len(order), dtype=torch.bool, device=order.device)
    kept, threshold = [], rounded(iou_threshold)
    for first in range(len(order)):
        if not free[first]:
            continue
        kept.append(first)
        rest = dets_sorted[first + 1 :]
        box = dets_sorted[first : first + 1].expand(len(rest), -1)
        suppressed = rotated_overlaps(box[:, :5], rest[:, :5]) > threshold
        if multi_label:
            suppressed &= box[:, 5] == rest[:, 5]
        free[first + 1 :] &= ~suppressed
    return order[kept]
