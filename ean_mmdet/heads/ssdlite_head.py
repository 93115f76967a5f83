"""MMDetection's SSD head, able to predict."""

from mmdet.models.dense_heads import SSDHead
from mmengine.registry import MODELS


@MODELS.register_module()
class SSDLiteHead(SSDHead):
    """MMDetection's ``SSDHead`` with the one attribute that its prediction reads and it never sets.

    In MMDetection 3.x ``_predict_by_feat_single`` asks ``self.loss_cls`` for a custom activation; ``SSDHead`` computes
    its classification loss itself and has none, so it trains but cannot predict.

    Args:
        **kwargs: Those of ``SSDHead``.
    """

    loss_cls = None
