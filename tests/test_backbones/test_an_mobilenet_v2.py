import pytest
import torch
from mmdet.models.backbones import MobileNetV2
from torch import nn

from ean_mmdet.backbones import ANMobileNetV2
from ean_mmdet.norms import AN


def test_the_norm_of_every_depthwise_convolution():
    backbone = ANMobileNetV2(widen_factor=0.25)
    for stage, (blocks, mixtures) in enumerate([(1, 5), (2, 5), (3, 5), (4, 5), (3, 10), (3, 10), (1, 10)], start=1):
        layer = getattr(backbone, f'layer{stage}')
        assert len(layer) == blocks
        for block in layer:
            norm = block.depthwise_conv.norm
            assert type(norm) is AN and norm.num_mixtures == mixtures
            assert norm.num_features == block.depthwise_conv.out_channels and not hasattr(block.depthwise_conv, 'bn')
            assert type(block.linear_conv.norm) is nn.BatchNorm2d
    assert sum(isinstance(module, AN) for module in backbone.modules()) == 17


def test_everything_else_is_the_plain_network():
    plain, backbone = MobileNetV2(widen_factor=0.25), ANMobileNetV2(widen_factor=0.25)
    missing, unexpected = backbone.load_state_dict(plain.state_dict(), strict=False)
    assert all('.depthwise_conv.an.' in key for key in missing)
    assert all('.depthwise_conv.bn.' in key for key in unexpected)
    backbone.train()
    outputs = backbone(torch.rand(2, 3, 64, 64))
    sum(output.sum() for output in outputs).backward()
    assert all(p.grad is not None for name, p in backbone.named_parameters() if '.an.' in name)


def test_parameters():
    # (3 K − 2) C + 2 K for each AN of C channels: 0.17 M on the plain 2.22 M
    added = sum(p.numel() for p in ANMobileNetV2().parameters()) - sum(p.numel() for p in MobileNetV2().parameters())
    blocks = {5: [32, 96, 144, 144, 192, 192, 192, 384, 384, 384], 10: [384, 576, 576, 576, 960, 960, 960]}
    assert added == sum((3 * k - 2) * c + 2 * k for k, channels in blocks.items() for c in channels)


def test_bad_number_of_mixtures():
    with pytest.raises(ValueError, match=r'num_mixtures must have a number for each of the 7 stages, got \(5, 10\)'):
        ANMobileNetV2(num_mixtures=(5, 10))
