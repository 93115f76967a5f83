"""Weights of torchvision's, timm's and MMPretrain's networks in OpenMMLab's backbones: the features are the same."""

import pytest
import timm
import torch
import torchvision
from mmengine.registry import MODELS
from torch import nn

from ean_mmdet.checkpoint import load_weights, weights_in
from ean_mmdet.checkpoint.layouts import by_order
from ean_mmdet.errors import InputError

TORCHVISION, TIMM = torchvision.models, timm.create_model
TF_BN = dict(type='BN', eps=1e-3)


def features(network: nn.Module):
    """The function from images to a classifier's last features."""
    if hasattr(network, 'forward_features'):  # timm's
        return network.forward_features
    if hasattr(network, 'features'):
        return network.features
    layers = [module for name, module in network.named_children() if name not in ('avgpool', 'fc')]
    return nn.Sequential(*layers)


def used(network: nn.Module) -> nn.Module:
    """With norms of all kinds and statistics."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.1)
            module.reset_running_stats()
            module.momentum = 1.0
    with torch.no_grad():
        features(network.train())(torch.randn(8, 3, 64, 64))
    return network.eval()


def deep(kind: str) -> dict:
    return dict(type=f'mmpretrain.{kind}', depth=50, out_indices=(3,))


@pytest.mark.parametrize(
    ('make', 'config'),
    [
        (lambda: TORCHVISION.resnext50_32x4d(), dict(type='mmdet.ResNeXt', depth=50, groups=32, base_width=4)),
        (lambda: TORCHVISION.mobilenet_v2(), dict(type='mmdet.MobileNetV2', out_indices=(7,))),
        (lambda: TORCHVISION.mobilenet_v2(), dict(type='mmpretrain.MobileNetV2')),
        (lambda: TIMM('mobilenetv2_100'), dict(type='mmpretrain.MobileNetV2')),
        (lambda: TORCHVISION.mobilenet_v3_small(), dict(type='mmpretrain.MobileNetV3', arch='small')),
        (
            lambda: TIMM('mobilenetv3_large_100'),
            dict(type='mmpretrain.MobileNetV3', arch='large', norm_cfg=dict(type='BN')),
        ),
        (
            lambda: TORCHVISION.efficientnet_b0(),
            dict(type='mmpretrain.EfficientNet', arch='b0', conv_cfg=None, norm_cfg=dict(type='BN')),
        ),
        (
            lambda: TIMM('tf_efficientnet_b0'),
            dict(type='mmdet.EfficientNet', arch='b0', out_indices=(6,), norm_cfg=TF_BN),
        ),
        (lambda: TORCHVISION.regnet_x_800mf(), dict(type='mmdet.RegNet', arch='regnetx_800mf')),
        (lambda: TIMM('regnetx_004'), dict(type='mmpretrain.RegNet', arch='regnetx_400mf')),
        (lambda: TORCHVISION.shufflenet_v2_x0_5(), dict(type='mmpretrain.ShuffleNetV2', widen_factor=0.5)),
        (lambda: TORCHVISION.densenet121(), dict(type='mmpretrain.DenseNet', arch='121')),
        (lambda: TORCHVISION.vgg11(), dict(type='mmpretrain.VGG', depth=11)),
        (lambda: TIMM('vgg11_bn'), dict(type='mmpretrain.VGG', depth=11, norm_cfg=dict(type='BN'))),
        (lambda: TIMM('cspresnet50'), deep('CSPResNet')),
        (lambda: TIMM('cspdarknet53'), dict(type='mmpretrain.CSPDarkNet', depth=53, out_indices=(4,))),
        (lambda: TIMM('resnet50d'), deep('ResNetV1d')),
        (lambda: TIMM('seresnet50'), deep('SEResNet')),
        (lambda: TIMM('resnest50d'), deep('ResNeSt')),
        (
            lambda: TIMM('res2net50d'),
            dict(deep('Res2Net'), scales=4, base_width=26, deep_stem=True, avg_down=True),
        ),
    ],
)
def test_the_same_features(make, config):
    plain = used(make())
    network = MODELS.build(config)
    report = load_weights(network, plain.state_dict(), strict=True)
    assert report.match.missing == []
    network.train(False)
    image = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        expected, actual = features(plain)(image), network(image)
    actual = actual[-1] if isinstance(actual, (tuple, list)) else actual
    if isinstance(plain, TORCHVISION.DenseNet):
        expected = expected.relu()
    assert expected.std() > 1e-3
    assert (actual - expected).abs().max() <= 1e-4 * expected.abs().max()


def test_real_weights_of_mobilenet_v2(shared_data):
    """torchvision's keys, weights that were trained on ImageNet, EAN added."""
    weights = torch.load(shared_data / 'weights/mobilenetv2_imagenet_features.pth', weights_only=True)
    plain = TORCHVISION.mobilenet_v2()
    plain.load_state_dict(weights_in(weights, 'file'), strict=False)
    attended = MODELS.build(
        dict(
            type='WithAttention',
            backbone=dict(type='mmdet.MobileNetV2', out_indices=(7,)),
            attention=dict(type='EAN', groups=8),
        )
    )
    load_weights(attended, weights_in(weights, 'file'), strict=True)
    plain.eval(), attended.eval()
    image = torch.randn(1, 3, 96, 96)
    with torch.no_grad():
        expected, (actual,) = plain.features(image), attended(image)
    assert (actual - expected).abs().max() <= 1e-4 * expected.abs().max()


def test_keys_that_are_sorted_by_letters():
    """As safetensors has them: features.10 before features.2."""
    weights = used(TORCHVISION.mobilenet_v2()).state_dict()
    config = dict(type='mmdet.MobileNetV2')
    one, other = MODELS.build(config), MODELS.build(config)
    load_weights(one, weights, strict=True)
    load_weights(other, {key: weights[key] for key in sorted(weights)}, strict=True)
    for key, value in one.state_dict().items():
        assert torch.equal(value, other.state_dict()[key]), key


@pytest.mark.parametrize(
    'make', [TORCHVISION.mobilenet_v3_small, TORCHVISION.resnet18, lambda: TIMM('mobilenetv2_140')]
)
def test_another_network_is_refused(make):
    with pytest.raises(InputError):
        load_weights(MODELS.build(dict(type='mmdet.MobileNetV2')), make().state_dict())


def test_the_same_weights_that_compute_otherwise_are_refused():
    weights = TIMM('res2net50d').state_dict()
    config = dict(type='mmdet.Res2Net', depth=50, scales=4, base_width=26)
    for strict in (False, True):
        with pytest.raises(InputError, match=r"MMDetection's Res2Net doesn't pool .*type='mmpretrain.Res2Net'"):
            load_weights(MODELS.build(config), weights, strict=strict)
    load_weights(MODELS.build(dict(config, type='mmpretrain.Res2Net', deep_stem=True, avg_down=True)), weights)
    model = MODELS.build(config)
    load_weights(model, model.state_dict())  # its own


def layers(*names: str, **shapes) -> dict:
    return {f'{name}.weight': torch.zeros(*shapes.get(name, (2, 2, 1, 1))) for name in names}


def test_order():
    assert by_order(layers('a', 'b'), layers('x', 'y')) == {'x.weight': 'a.weight', 'y.weight': 'b.weight'}
    # a head is behind what the model has, and a shortcut before or after the block
    theirs = layers('proj', 'a', 'b', 'head', head=(5, 2))
    expected = {'x.weight': 'a.weight', 'y.weight': 'b.weight', 'y.shortcut.weight': 'proj.weight'}
    assert by_order(theirs, layers('x', 'y', 'y.shortcut')) == expected
    # too few, another shape, a layer of another kind between
    assert by_order(layers('a'), layers('x', 'y')) is None
    assert by_order(layers('a', 'b', b=(2, 3, 1, 1)), layers('x', 'y')) is None
    assert by_order(layers('a', 'between', 'b', between=(2,)), layers('x', 'y')) is None
