import pytest
import torch
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.registry import MODELS

from tests.conftest import ROOT


@pytest.mark.parametrize('head', ['SSDHead', 'SSDLiteHead'])
def test_predicts(head):
    """Stock MMDetection's ``SSDHead`` does too, since the import."""
    model = Config.fromfile(ROOT / 'configs/ssdlite320_ean_mobilenext_voc.py').model
    model.backbone.update(widen_factor=0.25, last_channels=320)
    model.neck.update(in_channels=(144, 320), out_channels=(144, 320, 64, 64, 64, 64))
    model.bbox_head.type = head
    model.bbox_head.in_channels = (144, 320, 64, 64, 64, 64)
    detector = MODELS.build(model).eval()
    shape = dict(img_shape=(320, 320), pad_shape=(320, 320), ori_shape=(320, 320), scale_factor=(1.0, 1.0))
    with torch.no_grad():
        (sample,) = detector.predict(torch.rand(1, 3, 320, 320), [DetDataSample(metainfo=shape)], rescale=False)
    assert sample.pred_instances.bboxes.shape[1] == 4
