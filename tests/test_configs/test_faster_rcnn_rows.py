"""The Faster R-CNN rows of Table 5 start from the same plain weights as one network, and all their attention learns."""

import pytest
import torch
import torchvision
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope

from ean_mmdet.attention import MODULES
from tests.conftest import ROOT

ROWS = [f'faster_rcnn_{module}r50_coco' for module in ('', 'ean_', 'se_', 'ca_')]


@pytest.fixture(scope='module')
def resnet50(tmp_path_factory) -> str:
    """A plain ResNet-50 with the keys of torchvision, its norms scaled and with statistics."""
    torch.manual_seed(0)
    network = torchvision.models.resnet50()
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.weight.uniform_(0.5, 1.5)
                module.bias.normal_(std=0.1)
        network(torch.randn(4, 3, 64, 64))
    path = tmp_path_factory.mktemp('torchvision') / 'resnet50.pth'
    torch.save(network.state_dict(), path)
    return str(path)


@pytest.fixture(scope='module')
def backbones(resnet50):
    backbones = {}
    for row in ROWS:
        config = Config.fromfile(ROOT / f'configs/{row}.py').model.backbone
        assert config.init_cfg.checkpoint == 'torchvision://resnet50'
        config.init_cfg.checkpoint = resnet50
        with DefaultScope.overwrite_default_scope('mmdet'):
            backbones[row] = MODELS.build(config)
        backbones[row].init_weights()
        backbones[row].train()
    return backbones


def test_all_compute_the_same_at_iteration_0(backbones):
    image = torch.randn(2, 3, 96, 64)
    with torch.no_grad():
        plain, *others = [backbones[row](image) for row in ROWS]
    for row, features in zip(ROWS[1:], others):
        for feature, expected in zip(features, plain, strict=True):
            assert (feature - expected).abs().max() <= 1e-5 * expected.abs().max(), row


@pytest.mark.parametrize('row', ROWS[1:])
def test_every_tensor_of_its_attention_learns(backbones, row):
    backbone = backbones[row]
    attention = {
        f'{name}.{key}': parameter
        for name, module in backbone.named_modules()
        if isinstance(module, tuple(MODULES.values()))
        for key, parameter in module.named_parameters()
    }
    assert len({key.split('.')[0] for key in attention}) == 4
    before = {key: parameter.detach().clone() for key, parameter in attention.items()}
    optimizer = torch.optim.Adam([p for p in backbone.parameters() if p.requires_grad], lr=1e-4)
    for _ in range(3):  # what is in front of a zero layer has a gradient from the second step on
        optimizer.zero_grad()
        sum((feature * torch.randn_like(feature)).mean() for feature in backbone(torch.randn(2, 3, 64, 64))).backward()
        optimizer.step()
    assert [key for key, parameter in attention.items() if torch.equal(parameter, before[key])] == []


def test_all_freeze_the_stem_alone(backbones):
    for row, backbone in backbones.items():
        frozen = {name.split('.')[0] for name, p in backbone.named_parameters() if not p.requires_grad}
        assert frozen == {'conv1', 'bn1'}, row
