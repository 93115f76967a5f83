"""Overlaps of boxes, upright and rotated."""

import torch
from torch import Tensor


def bbox_overlaps(boxes1: Tensor, boxes2: Tensor, ious: Tensor, mode: int, aligned: bool, offset: int) -> None:
    """Fill ``ious`` by the plain formula that mmcv keeps beside its operator.

    Args:
        boxes1: (M, 4), x1, y1, x2, y2.
        boxes2: (N, 4).
        ious: (M, N), or (N,) where ``aligned``, filled.
        mode: 0 divides the intersection by the union, 1 by the area of ``boxes1``.
        aligned: Box i with box i.
        offset: 0, or 1 where x2 and y2 are the last pixel inside.
    """
    from mmcv.ops.bbox import _bbox_overlaps_cpu

    ious.copy_(_bbox_overlaps_cpu(boxes1, boxes2, ('iou', 'iof')[mode], aligned, offset))


def box_iou_rotated(boxes1: Tensor, boxes2: Tensor, ious: Tensor, mode_flag: int, aligned: bool) -> None:
    """Fill ``ious`` of rotated boxes.

    Args:
        boxes1: (M, 5), x, y of the centre, width, height, angle in radians.
        boxes2: (N, 5).
        ious: (M · N,), or (N,) where ``aligned``, filled.
        mode_flag: 0 divides the intersection by the union, 1 by the area of ``boxes1``.
        aligned: Box i with box i.
    """
    if aligned:
        ious.copy_(rotated_overlaps(boxes1, boxes2, mode_flag))
        return
    for row, box in zip(ious.view(len(boxes1), len(boxes2)), boxes1):  # a row at a time: 24 points a pair
        row.copy_(rotated_overlaps(box.expand(len(boxes2), -1), boxes2, mode_flag))


def rotated_overlaps(boxes1: Tensor, boxes2: Tensor, mode: int = 0) -> Tensor:
    """Overlap of each of P pairs of rotated boxes, (P, 5) each, in float64.

    The intersection of two rectangles is the convex hull of the corners of each inside the other and of the points
    where their edges cross; its area is the shoelace formula on these points in the order of their angles.
    """
    boxes1, boxes2 = boxes1.double(), boxes2.double()
    centre = (boxes1[:, :2] + boxes2[:, :2]) / 2  # small numbers, so that differences are exact far from the origin
    first, second = corner_points(boxes1, centre), corner_points(boxes2, centre)
    crossings, crosses = edge_crossings(first, second)
    points = torch.cat([first, second, crossings], dim=1)
    valid = torch.cat([inside(first, second), inside(second, first), crosses], dim=1)
    area = hull_area(points, valid)
    area1, area2 = boxes1[:, 2] * boxes1[:, 3], boxes2[:, 2] * boxes2[:, 3]
    whole = area1 if mode == 1 else area1 + area2 - area
    empty = (area1 < 1e-14) | (area2 < 1e-14)
    return torch.where(empty, 0, area / whole.where(~empty, torch.ones_like(whole)))


def corner_points(boxes: Tensor, origin: Tensor) -> Tensor:
    """The corners (P, 4, 2) of rotated boxes relative to ``origin``, in order."""
    cos, sin = boxes[:, 4].cos(), boxes[:, 4].sin()
    across = torch.stack([cos, sin], dim=1) * boxes[:, 2:3] / 2
    along = torch.stack([-sin, cos], dim=1) * boxes[:, 3:4] / 2
    signs = ((-1, -1), (1, -1), (1, 1), (-1, 1))
    return torch.stack([boxes[:, :2] - origin + i * across + j * along for i, j in signs], dim=1)


def cross(a: Tensor, b: Tensor) -> Tensor:
    """Compute the cross product of vectors (…, 2)."""
    return a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0]


def edge_crossings(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """Return where the edges of two quadrilaterals cross: points (P, 16, 2) and which of them are real (P, 16)."""
    start1, start2 = first[:, :, None], second[:, None]
    edge1, edge2 = first.roll(-1, 1)[:, :, None] - start1, second.roll(-1, 1)[:, None] - start2
    slant = cross(edge1, edge2)
    parallel = slant.abs() < 1e-14
    slant = slant.where(~parallel, torch.ones_like(slant))
    t1, t2 = cross(start2 - start1, edge2) / slant, cross(start2 - start1, edge1) / slant
    real = ~parallel & (t1 >= 0) & (t1 <= 1) & (t2 >= 0) & (t2 <= 1)
    return (start1 + t1[..., None] * edge1).flatten(1, 2), real.flatten(1)


def inside(points: Tensor, box: Tensor) -> Tensor:
    """Tell which points (P, N, 2) are in a rectangle given by its corners (P, 4, 2), its border included."""
    found = torch.ones_like(points[..., 0], dtype=torch.bool)
    for side in (box[:, 1] - box[:, 0], box[:, 3] - box[:, 0]):
        length = ((points - box[:, :1]) * side[:, None]).sum(2)
        square = (side * side).sum(1, keepdim=True)
        found &= (length >= -1e-9 * square) & (length <= (1 + 1e-9) * square)
    return found


def hull_area(points: Tensor, valid: Tensor) -> Tensor:
    """Area of the convex hull of points (P, N, 2) on its border, those that are ``valid`` (P, N)."""
    weight = valid[..., None].to(points)
    points = (points - (points * weight).sum(1, keepdim=True) / weight.sum(1, keepdim=True).clamp(min=1)) * weight
    angle = torch.atan2(points[..., 1], points[..., 0]).where(valid, torch.full_like(points[..., 0], torch.inf))
    points = points.gather(1, angle.argsort(1)[..., None].expand(-1, -1, 2))
    # the points that are not valid come last and are zero: they add nothing, but the hull must close before them
    count = valid.sum(1)
    following = points.roll(-1, 1)
    last = (count - 1).clamp(min=0)[:, None, None].expand(-1, 1, 2)
    following = following.scatter(1, last, points[:, :1])
    return cross(points, following).sum(1).abs() / 2
