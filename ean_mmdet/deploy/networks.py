"""What of a model goes into an exported graph: from normalized images to class scores, or to boxes.

Detections are those of MMDetection's own heads, in a fixed number an image: the ``max_per_img`` best, padded with a
score of 0 and a label of -1.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from mmdet.models.dense_heads import RetinaHead, SSDHead, YOLOXHead
from mmdet.models.detectors import SingleStageDetector
from mmdet.models.task_modules.coders.delta_xywh_bbox_coder import DeltaXYWHBBoxCoder, delta2bbox
from torch import Tensor, nn

from ..errors import InputError
from .nms import nms_mask

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


class RawHeads(nn.Module):
    """Images to the maps that a detector's head gives, as they are."""

    inputs = ('images',)

    def __init__(self, model: SingleStageDetector) -> None:
        super().__init__()
        self.model = model
        with torch.no_grad():
            kinds = len(model.bbox_head(model.extract_feat(torch.zeros(1, 3, 64, 64))))
        names = ('cls_score', 'bbox_pred', 'objectness')[:kinds]
        levels = len(model.bbox_head(model.extract_feat(torch.zeros(1, 3, 64, 64)))[0])
        self.outputs = tuple(f'{name}_{level}' for name in names for level in range(levels))

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
        if not self.yolox and type(head.bbox_coder) is not DeltaXYWHBBoxCoder:
            raise InputError(f"the head's {type(head.bbox_coder).__name__} has no export; DeltaXYWHBBoxCoder has")
        nms = cfg.get('nms', {})
        if nms.get('type', 'nms') != 'nms' or nms.get('class_agnostic', False):
            raise InputError(f'test_cfg.nms={dict(nms)} has no export: NonMaxSuppression is hard, and class by class')
        self.iou_threshold, self.score_threshold = float(nms['iou_threshold']), float(cfg.get('score_thr', 0))
        self.candidates, self.min_size = cfg.get('nms_pre', -1), cfg.get('min_bbox_size', -1)
        limit = cfg.get('max_per_img', MAX_DETECTIONS)
        self.limit = limit if limit > 0 else MAX_DETECTIONS

    def forward(self, images: Tensor, sizes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Detect.

        Args:
            images: (N, 3, H, W), normalized, padded.
            sizes: (N, 2), the height and width in pixels of each image without its padding, float.

        Returns:
            Boxes (N, M, 4) as x1, y1, x2, y2 in pixels of the input, scores (N, M) and labels (N, M), the best first.
        """
        levels = self.model.bbox_head(self.model.extract_feat(images))
        boxes, scores, labels = self._yolox(*levels) if self.yolox else self._anchors(*levels[:2])
        if not self.yolox:
            limits = sizes.flip(1).repeat(1, 2)[:, None]  # width, height, width, height
            boxes = torch.minimum(boxes.clamp(min=0), limits)
            if self.min_size >= 0:
                large = ((boxes[..., 2:] - boxes[..., :2]) > self.min_size).all(2)
                scores = torch.where(large, scores, torch.zeros_like(scores) - 1)
        # boxes of other classes are moved apart, so that they don't suppress each other
        apart = boxes + (labels * (boxes.amax((1, 2))[:, None] + 1))[..., None]
        kept = nms_mask(apart, scores, self.iou_threshold, self.score_threshold)
        scores = torch.where(kept > 0, scores, torch.zeros_like(scores) - 1)
        scores, order = scores.topk(min(self.limit, scores.shape[1]), dim=1)
        boxes = boxes.gather(1, order[..., None].expand(-1, -1, 4))
        found = scores >= 0
        labels = torch.where(found, labels.gather(1, order), torch.zeros_like(scores) - 1)
        return boxes * found[..., None], scores.clamp(min=0), labels.long()

    def _anchors(self, cls_scores: Sequence[Tensor], bbox_preds: Sequence[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """The best pairs of anchor and class of each level: boxes, scores, labels."""
        head = self.model.bbox_head
        priors = head.prior_generator.grid_priors(
            [score.shape[-2:] for score in cls_scores], device=cls_scores[0].device
        )
        batch, channels = cls_scores[0].shape[0], head.cls_out_channels
        boxes, scores, labels = [], [], []
        for cls_score, bbox_pred, anchors in zip(cls_scores, bbox_preds, priors):
            score = cls_score.permute(0, 2, 3, 1).reshape(batch, -1, channels)
            score = score.sigmoid() if head.use_sigmoid_cls else score.softmax(2)[..., :-1]
            classes = score.shape[2]
            score = score.flatten(1)
            if 0 < self.candidates < score.shape[1]:
                score, index = score.topk(self.candidates, dim=1)
            else:
                index = torch.arange(score.shape[1], device=score.device).expand(score.shape)
            anchor = index // classes
            deltas = bbox_pred.permute(0, 2, 3, 1).reshape(batch, -1, 4)
            deltas = deltas.gather(1, anchor[..., None].expand(-1, -1, 4))
            coder = head.bbox_coder
            decoded = delta2bbox(anchors[anchor.flatten()], deltas.reshape(-1, 4), coder.means, coder.stds)
            boxes.append(decoded.reshape(deltas.shape))
            scores.append(score)
            labels.append((index % classes).to(score.dtype))
        return torch.cat(boxes, 1), torch.cat(scores, 1), torch.cat(labels, 1)

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


def to_graph(model: nn.Module, raw: bool = False) -> nn.Module:
    """The part of a model that is exported.

    Args:
        model: A classifier of MMPretrain or a single-stage detector of MMDetection.
        raw: Whether a detector gives its heads' maps instead of boxes. Defaults to False.

    Raises:
        InputError: It is something else.
    """
    if isinstance(model, SingleStageDetector):
        return RawHeads(model) if raw else SingleStage(model)
    if hasattr(model, 'head') and type(model).__name__ == 'ImageClassifier':
        if raw:
            raise InputError('--raw is about detectors: a classifier gives its scores')
        return Classifier(model)
    raise InputError(
        f'{type(model).__name__} has no export; image classifiers and single-stage detectors (SSD, RetinaNet, YOLOX) '
        f'have'
    )
