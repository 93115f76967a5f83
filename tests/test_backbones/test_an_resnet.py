import pytest
import torch
from mmdet.models.backbones import ResNet
from mmengine.registry import MODELS
from torch import nn

from ean_mmdet.backbones import ANResNet
from ean_mmdet.norms import AN


def head_params(classes=1000):
    return 2048 * classes + classes


def test_parameters_are_the_papers():
    backbone = MODELS.build(dict(type='ANResNet', depth=50))
    assert round((sum(p.numel() for p in backbone.parameters()) + head_params()) / 1e6, 2) == 25.76


def test_second_norm_of_every_bottleneck():
    backbone = ANResNet(50)
    for stage, (blocks, mixtures) in enumerate([(3, 10), (4, 10), (6, 20), (3, 20)], start=1):
        layer = getattr(backbone, f'layer{stage}')
        assert len(layer) == blocks
        for block in layer:
            assert type(block.norm2) is AN and block.norm2.num_mixtures == mixtures
            assert type(block.norm1) is type(block.norm3) is nn.BatchNorm2d
            assert not hasattr(block, 'bn2')


def test_everything_else_is_the_plain_network():
    torch.manual_seed(0)
    plain, backbone = ResNet(50, base_channels=8).double(), ANResNet(50, base_channels=8).double()
    missing, unexpected = backbone.load_state_dict(plain.state_dict(), strict=False)
    assert all('.an2.' in key for key in missing) and all('.bn2.' in key for key in unexpected)
    # AN with a constant mixture of ones and no bias is a batch norm
    for module in backbone.modules():
        if isinstance(module, AN):
            nn.init.zeros_(module.attention[1].weight)
            nn.init.constant_(module.attention[1].bias, 3)  # h-sigmoid(3) = 1
            nn.init.constant_(module.mixture_weight, 1 / module.num_mixtures)
            nn.init.zeros_(module.mixture_bias)
    x = torch.rand(2, 3, 64, 64, dtype=torch.float64)
    for actual, expected in zip(backbone(x), plain(x)):
        torch.testing.assert_close(actual, expected)


def test_initialization_keeps_the_mixtures():
    backbone = ANResNet(50, base_channels=8)
    backbone.init_weights()
    block = backbone.layer2[0]
    assert not block.norm3.weight.any()  # zero_init_residual
    assert block.norm2.mixture_weight.std() > 0.05 and 0.9 < block.norm2.mixture_weight.mean() < 1.1


def test_trains_with_other_norms():
    torch.manual_seed(0)
    backbone = ANResNet(50, base_channels=8, norm_cfg=dict(type='GN', num_groups=4), with_cp=True)
    assert isinstance(backbone.layer1[0].norm2.norm, nn.GroupNorm)
    sum(out.mean() for out in backbone(torch.rand(2, 3, 64, 64, requires_grad=True))).backward()
    assert all(p.grad is not None for p in backbone.layer1.parameters())


def test_frozen_norms():
    backbone = ANResNet(50, base_channels=8, norm_eval=True, norm_cfg=dict(type='BN', requires_grad=False))
    backbone.train()
    assert not any(m.training for m in backbone.modules() if isinstance(m, nn.BatchNorm2d))
    assert not any(p.requires_grad for p in backbone.layer1[0].norm2.parameters())


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (dict(depth=18), r'depth must be one of \[50, 101, 152\], got 18'),
        (dict(depth=50, num_mixtures=(10, 10)), r'a number for each stage, got \(10, 10\)'),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        ANResNet(**arguments)
