"""MMDetection's SSD head, able to predict."""

from mmdet.models.dense_heads import SSDHead
from mmengine.registry import MODELS

# In MMDetection 3 the prediction asks a head's loss_cls for a custom activation. SSDHead computes its classification
# loss itself and has none, so that it trains and fails at the first validation.
if not hasattr(SSDHead, 'loss_cls'):
    SSDHead.loss_cls = None


@MODELS.register_module()
class SSDLiteHead(SSDHead):
    """MMDetection's ``SSDHead``, which can predict since this module is imported.

    Args:
        **kwargs: Those of ``SSDHead``.
    """
