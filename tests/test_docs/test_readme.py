"""Blocks of Python in README and docs, run as they stand: weights kept, functions kept."""

import re

import pytest
import torch
import torchvision
from mmengine.config import Config
from mmengine.registry import MODELS
from mmengine.runner.checkpoint import get_torchvision_models

from ean_mmdet import positions
from ean_mmdet.attention import EAN
from ean_mmdet.hooks.frozen_attention import frozen_attention
from tests.conftest import ROOT

PAGES = [ROOT / name for name in ('README.md', 'docs/any_network.md', 'docs/warm_start.md')]
TEXT = ''.join(page.read_text(encoding='utf-8') for page in PAGES)
BLOCKS = re.findall(r'```python\n(.*?)```', TEXT, re.DOTALL)
BASE = next(block for block in BLOCKS if '_base_ =' in block)


@pytest.fixture(scope='module')
def resnet50(tmp_path_factory):
    """torchvision://resnet50 without a network: a file where a download would be, of random weights in use."""
    torch.manual_seed(0)
    plain = torchvision.models.resnet50()
    for module in plain.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            torch.nn.init.normal_(module.bias, std=0.1)
    with torch.no_grad():
        plain(torch.randn(4, 3, 64, 64))
    home = tmp_path_factory.mktemp('torch')
    path = home / 'hub' / 'checkpoints' / get_torchvision_models()['resnet50'].rpartition('/')[2]
    path.parent.mkdir(parents=True)
    torch.save(plain.state_dict(), path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv('TORCH_HOME', str(home))
        yield plain.eval()


def backbone_of(block: str, tmp_path):
    """The backbone of a config that is README's first block, or that with the block's settings instead."""
    text = block if '_base_' in block else BASE.partition('model =')[0] + block
    (tmp_path / 'config.py').write_text(text, encoding='utf-8')
    config = Config.fromfile(tmp_path / 'config.py')
    backbone = MODELS.build(config.get('backbone') or config.model.backbone)
    backbone.init_weights()
    backbone.train(False)
    return backbone


@pytest.mark.parametrize('text', ['_base_ =', 'position=', "type='WarmStart'"])
def test_a_plain_resnet_50_with_attention_computes_what_it_did(text, resnet50, tmp_path):
    backbone = backbone_of(next(block for block in BLOCKS if text in block), tmp_path)
    assert sum(isinstance(module, EAN) for module in backbone.modules()) == 16
    x = image = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        features = backbone(image)
        x = resnet50.maxpool(resnet50.relu(resnet50.bn1(resnet50.conv1(x))))
        for stage, feature in zip((resnet50.layer1, resnet50.layer2, resnet50.layer3, resnet50.layer4), features):
            x = stage(x)
            assert (feature - x).abs().max() <= 1e-5 * x.abs().max()
    assert frozen_attention(backbone, [dict(lr=0.1, params=list(backbone.parameters()))]) is None


def test_attach(monkeypatch):
    resnet50 = torchvision.models.resnet50
    monkeypatch.setattr(torchvision.models, 'resnet50', lambda weights: resnet50())  # nothing is downloaded
    for page in PAGES[:2]:
        found = re.findall(r'```python\n(.*?)```', page.read_text(encoding='utf-8'), re.DOTALL)
        block = next(block for block in found if 'attach' in block)
        names: dict = {}
        exec(block, names)
        assert len(positions(names['model'])) == 16


def test_with_attention():
    names: dict = {}
    exec(next(block for block in BLOCKS if 'WithAttention' in block), names)
    backbone = {key: value for key, value in names['model']['backbone'].items() if key != '_delete_'}
    assert any(isinstance(module, EAN) for module in MODELS.build(backbone).modules())
