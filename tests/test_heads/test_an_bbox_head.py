import pytest
import torch
from mmengine.config import Config
from torch import nn

from ean_mmdet.engine import build_model
from ean_mmdet.heads import ANBBoxHead
from ean_mmdet.norms import AN
from tests.conftest import ROOT


def test_an_behind_every_convolution():
    head = ANBBoxHead(in_channels=32, conv_out_channels=32, fc_out_channels=16, num_classes=3)
    norms = [layer.norm for layer in head.shared_convs]
    assert [type(norm) for norm in norms] == [AN] * 4 and [norm.num_mixtures for norm in norms] == [10, 10, 20, 20]
    assert all(type(norm.norm) is nn.GroupNorm for norm in norms)
    scores, boxes = head(torch.rand(2, 32, 7, 7))
    assert scores.shape == (2, 4) and boxes.shape == (2, 12)
    scores.sum().backward()
    assert all(p.grad is not None for p in head.shared_convs.parameters())
    with pytest.raises(ValueError, match=r'each of the 4 convolutions, got \(10,\)'):
        ANBBoxHead(num_mixtures=(10,), num_classes=3)


def test_parameters_of_the_published_detectors():
    """45.71 M with batch norm, 45.96 M with AN in backbone and box head: one class more, the background, of masks."""
    counts = {}
    for name in ('mask_rcnn_r50_coco', 'mask_rcnn_an_r50_coco'):
        config = Config.fromfile(ROOT / f'configs/an/{name}.py')
        model = build_model(config)
        counts[name] = sum(p.numel() for p in model.parameters())
    print(counts)
    # MMDetection 3 predicts 80 classes' boxes and masks, the published code 81
    classes = 4 * 1025 + 257
    assert round((counts['mask_rcnn_r50_coco'] + classes) / 1e6, 2) == 45.71
    assert round((counts['mask_rcnn_an_r50_coco'] + classes) / 1e6, 2) == 45.96
