"""Parts of a model that go into an exported graph: from normalized images to class scores, or to boxes.

Detections are those of MMDetection's own heads, in a fixed number an image: the ``max_per_img`` best, padded with a
score of 0 and a label of -1.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from mmcv.ops import RoIAlign
from mmdet.models.dense_heads import AnchorHead, RetinaHead, RPNHead, SSDHead, YOLOXHead
from mmdet.models.detectors import SingleStageDetector, TwoStageDetector
from mmdet.models.roi_heads import StandardRoIHead
from mmdet.models.task_modules.coders.delta_xywh_bbox_coder import DeltaXYWHBBoxCoder, delta2bbox
from mmengine.config import ConfigDict
from torch import Tensor, nn

from ..errors import InputError
from .nms import nms_mask
from .roi_align import roi_align_levels

MAX_DETECTIONS = 300  # where the config doesn't say


class Classifier(nn.Module):
    """Images to the probabilities of the classes."""

    inputs = ('images',)
    outputs = ('scores',)

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        """(N, 3, H, W) → (N, classes)."""
        return self.model(images, mode='tensor').softmax(1)


class Features(nn.Module):
    """Images to a backbone's maps, for benchmarks."""

    inputs = ('images',)

    def __init__(self, backbone: Any) -> None:
        super().__init__()
        self.model = backbone
        self.outputs = tuple(f'map_{index}' for index in backbone.out_indices)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """(N, 3, H, W) → a map a stage."""
        return tuple(self.model(images))


class RawHeads(nn.Module):
    """Images to the maps that a detector's head gives, as they are."""

    inputs = ('images',)

    def __init__(self, model: SingleStageDetector) -> None:
        super().__init__()
        self.model = model
        with torch.no_grad():
            found = model.bbox_head(model.extract_feat(torch.zeros(1, 3, 64, 64)))
        names = zip(('cls_score', 'bbox_pred', 'objectness'), found)
        self.outputs = tuple(f'{name}_{level}' for name, levels in names for level in range(len(levels)))

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """(N, 3, H, W) → a map a kind and level."""
        return tuple(level for kind in self.model.bbox_head(self.model.extract_feat(images)) for level in kind)


class SingleStage(nn.Module):
    """Images to boxes after non-maximum suppression, for SSD, RetinaNet and YOLOX.

    Raises:
        InputError: The head, its box coder or its suppression is another one.
    """

    inputs = ('images', 'sizes')
    outputs = ('boxes', 'scores', 'labels')

    def __init__(self, model: SingleStageDetector) -> None:
        super().__init__()
        self.model = model
        head, cfg = model.bbox_head, model.test_cfg
        self.yolox = isinstance(head, YOLOXHead)
        if not isinstance(head, (SSDHead, RetinaHead, YOLOXHead)):
            raise InputError(f'{type(head).__name__} has no export; SSDHead, RetinaHead and YOLOXHead have')
        if not self.yolox:
            check_coder(head)
        self.iou_threshold, self.score_threshold = iou_threshold(cfg), float(cfg.get('score_thr', 0))
        self.candidates, self.min_size = cfg.get('nms_pre', -1), cfg.get('min_bbox_size', -1)
        self.limit = most_detections(cfg)

    def forward(self, images: Tensor, sizes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Detect.

        Args:
            images: (N, 3, H, W), normalized, padded.
            sizes: (N, 2), the height and width in pixels of each image without its padding, float.

        Returns:
            Boxes (N, M, 4) as x1, y1, x2, y2 in pixels of the input, scores (N, M) and labels (N, M), the best first.
        """
        levels = self.model.bbox_head(self.model.extract_feat(images))
        if self.yolox:
            boxes, scores, labels = self._yolox(*levels)
        else:
            found = [
                torch.cat(parts, 1)
                for parts in zip(*anchored(self.model.bbox_head, levels[0], levels[1], self.candidates))
            ]
            boxes, scores, labels = found
            boxes, scores = inside(boxes, scores, sizes, self.min_size)
        return suppressed(boxes, scores, labels, self.iou_threshold, self.score_threshold, self.limit)

    def _yolox(
        self, cls_scores: Sequence[Tensor], bbox_preds: Sequence[Tensor], objectnesses: Sequence[Tensor]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The best class of each prior: boxes, scores, labels."""
        head, batch = self.model.bbox_head, cls_scores[0].shape[0]
        priors = head.prior_generator.grid_priors(
            [score.shape[-2:] for score in cls_scores], device=cls_scores[0].device, with_stride=True
        )

        def flat(maps: Sequence[Tensor], channels: int) -> Tensor:
            return torch.cat([level.permute(0, 2, 3, 1).reshape(batch, -1, channels) for level in maps], 1)

        scores, labels = flat(cls_scores, head.cls_out_channels).sigmoid().max(2)
        boxes = head._bbox_decode(torch.cat(priors), flat(bbox_preds, 4))
        return boxes, scores * flat(objectnesses, 1)[..., 0].sigmoid(), labels.to(scores.dtype)


class TwoStage(nn.Module):
    """Images to boxes after non-maximum suppression, for Faster R-CNN.

    Raises:
        InputError: The proposals, the regions' extractor, the box coder or the suppression are others.
    """

    inputs = ('images', 'sizes')
    outputs = ('boxes', 'scores', 'labels')

    def __init__(self, model: TwoStageDetector) -> None:
        super().__init__()
        self.model = model
        rpn, roi, cfg = model.rpn_head, model.roi_head, model.test_cfg
        if type(rpn) is not RPNHead or type(roi) is not StandardRoIHead or roi.with_mask:
            raise InputError(
                f'{type(model).__name__} with {type(rpn).__name__} and {type(roi).__name__} has no export; Faster '
                f'R-CNN (RPNHead and StandardRoIHead without masks) has'
            )
        check_coder(rpn)
        check_coder(roi.bbox_head)
        extractor = roi.bbox_roi_extractor
        for layer in extractor.roi_layers:
            if type(layer) is not RoIAlign or not layer.aligned or layer.pool_mode != 'avg':
                raise InputError(f'{layer} has no export; RoIAlign with aligned=True and pool_mode=avg has')
        self.strides = [float(stride) for stride in extractor.featmap_strides]
        self.finest, self.sampling = float(extractor.finest_scale), int(extractor.roi_layers[0].sampling_ratio)
        self.side = extractor.roi_layers[0].output_size[0]
        self.proposals, self.rpn_threshold = cfg.rpn.max_per_img, iou_threshold(cfg.rpn)
        self.iou_threshold, self.score_threshold = iou_threshold(cfg.rcnn), float(cfg.rcnn.score_thr)
        self.limit = most_detections(cfg.rcnn)

    def forward(self, images: Tensor, sizes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Detect; shapes as those of :class:`SingleStage`."""
        maps = self.model.extract_feat(images)
        regions, found = self._regions(maps, sizes)
        batch, count = found.shape
        index = torch.arange(batch, device=regions.device, dtype=regions.dtype)[:, None, None].expand(-1, count, 1)
        rois = torch.cat([index, regions], 2).flatten(0, 1)
        layers = maps[: len(self.strides)]
        features = roi_align_levels(list(layers), rois, self.strides, self.finest, self.side, self.sampling)
        head = self.model.roi_head.bbox_head
        cls_score, bbox_pred = head(features)
        scores = cls_score.softmax(1)[:, :-1].reshape(batch, count, -1)
        classes = scores.shape[2]
        scores = torch.where(found[..., None], scores, torch.zeros_like(scores) - 1).flatten(1)
        coder = head.bbox_coder
        boxes = delta2bbox(rois[:, 1:], bbox_pred, coder.means, coder.stds).reshape(batch, count, -1, 4)
        boxes = boxes.expand(-1, -1, classes, -1).flatten(1, 2)
        boxes, scores = inside(boxes, scores, sizes)
        labels = torch.arange(classes, device=scores.device, dtype=scores.dtype).repeat(batch, count)
        return suppressed(boxes, scores, labels, self.iou_threshold, self.score_threshold, self.limit)

    def _regions(self, maps: Sequence[Tensor], sizes: Tensor) -> tuple[Tensor, Tensor]:
        """The best proposals of each image, and which of them there are."""
        head, cfg = self.model.rpn_head, self.model.test_cfg.rpn
        cls_scores, bbox_preds = head(maps)
        levels = list(anchored(head, cls_scores, bbox_preds, cfg.nms_pre))
        boxes, scores = torch.cat([level[0] for level in levels], 1), torch.cat([level[1] for level in levels], 1)
        numbers = torch.cat([torch.full_like(level[1], i) for i, level in enumerate(levels)], 1)
        boxes, scores = inside(boxes, scores, sizes, cfg.get('min_bbox_size', -1))
        boxes, _, numbers = suppressed(boxes, scores, numbers, self.rpn_threshold, -0.5, self.proposals)
        return boxes, numbers >= 0


def check_coder(head: nn.Module) -> None:
    """See that a head's boxes are the usual shifts and scales.

    Raises:
        InputError: They aren't.
    """
    if type(head.bbox_coder) is not DeltaXYWHBBoxCoder:
        raise InputError(
            f"{type(head).__name__}'s {type(head.bbox_coder).__name__} has no export; DeltaXYWHBBoxCoder has"
        )


def iou_threshold(cfg: ConfigDict) -> float:
    """The threshold of a head's suppression.

    Raises:
        InputError: It isn't hard, or not class by class.
    """
    nms = cfg.get('nms', {})
    if nms.get('type', 'nms') != 'nms' or nms.get('class_agnostic', False):
        raise InputError(f'test_cfg.nms={dict(nms)} has no export: NonMaxSuppression is hard, and class by class')
    return float(nms['iou_threshold'])


def most_detections(cfg: ConfigDict) -> int:
    """Return the most detections that an image has."""
    limit = cfg.get('max_per_img', MAX_DETECTIONS)
    return limit if limit > 0 else MAX_DETECTIONS


def anchored(
    head: AnchorHead, cls_scores: Sequence[Tensor], bbox_preds: Sequence[Tensor], most: int
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """The best pairs of anchor and class of each level, ``most`` of them: boxes, scores, labels."""
    priors = head.prior_generator.grid_priors([score.shape[-2:] for score in cls_scores], device=cls_scores[0].device)
    batch, channels, coder = cls_scores[0].shape[0], head.cls_out_channels, head.bbox_coder
    for cls_score, bbox_pred, anchors in zip(cls_scores, bbox_preds, priors):
        score = cls_score.permute(0, 2, 3, 1).reshape(batch, -1, channels)
        score = score.sigmoid() if head.use_sigmoid_cls else score.softmax(2)[..., :-1]
        classes = score.shape[2]
        score = score.flatten(1)
        if most > 0:
            score, index = score.topk(torch.sym_min(most, score.shape[1]), dim=1)
        else:
            index = torch.arange(score.shape[1], device=score.device).expand(score.shape)
        anchor = index // classes
        deltas = bbox_pred.permute(0, 2, 3, 1).reshape(batch, -1, 4)
        deltas = deltas.gather(1, anchor[..., None].expand(-1, -1, 4))
        decoded = delta2bbox(anchors[anchor.flatten()], deltas.reshape(-1, 4), coder.means, coder.stds)
        yield decoded.reshape(deltas.shape), score, (index % classes).to(score.dtype)


def inside(boxes: Tensor, scores: Tensor, sizes: Tensor, min_size: float = -1) -> tuple[Tensor, Tensor]:
    """Boxes (N, K, 4) cut at the images' edges; those not larger than ``min_size`` get a score of -1."""
    limits = sizes.flip(1).repeat(1, 2)[:, None]  # width, height, width, height
    boxes = torch.minimum(boxes.clamp(min=0), limits)
    if min_size >= 0:
        large = ((boxes[..., 2:] - boxes[..., :2]) > min_size).all(2)
        scores = torch.where(large, scores, torch.zeros_like(scores) - 1)
    return boxes, scores


def suppressed(
    boxes: Tensor, scores: Tensor, labels: Tensor, iou_threshold: float, score_threshold: float, limit: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Non-maximum suppression, class by class: the ``limit`` best, padded with a score of 0 and a label of -1."""
    # boxes of other classes are moved apart, so that they don't suppress each other
    apart = boxes + (labels * (boxes.amax((1, 2))[:, None] + 1))[..., None]
    kept = nms_mask(apart, scores, iou_threshold, score_threshold)
    scores = torch.where(kept > 0, scores, torch.zeros_like(scores) - 1)
    scores, order = scores.topk(torch.sym_min(limit, scores.shape[1]), dim=1)
    boxes = boxes.gather(1, order[..., None].expand(-1, -1, 4))
    found = scores >= 0
    labels = torch.where(found, labels.gather(1, order), torch.zeros_like(scores) - 1)
    return boxes * found[..., None], scores.clamp(min=0), labels.long()


def to_graph(model: nn.Module, raw: bool = False) -> nn.Module:
    """The part of a model that is exported.

    Args:
        model: A classifier of MMPretrain, or a detector of MMDetection: single-stage, or Faster R-CNN.
        raw: Whether a detector gives its heads' maps instead of boxes. Defaults to False.

    Raises:
        InputError: It is something else.
    """
    if isinstance(model, SingleStageDetector):
        return RawHeads(model) if raw else SingleStage(model)
    if isinstance(model, TwoStageDetector):
        if raw:
            raise InputError("--raw is about single-stage detectors: a second stage's input are boxes")
        return TwoStage(model)
    if hasattr(model, 'head') and type(model).__name__ == 'ImageClassifier':
        if raw:
            raise InputError('--raw is about detectors: a classifier gives its scores')
        return Classifier(model)
    raise InputError(
        f'{type(model).__name__} has no export; image classifiers and detectors (SSD, RetinaNet, YOLOX, Faster R-CNN) '
        f'have'
    )
