"""What every attention module has in common."""

import copy
import pickle
from pathlib import Path

import pytest
import torch
from mmcv.cnn import build_plugin_layer
from mmengine.model import BaseModule
from mmengine.registry import MODELS
from torch import nn

from ean_mmdet import attention
from ean_mmdet.backbones import MobileNeXt
from tests.attention_configs import attention_config, shared

CONFIGS = [attention_config(name) for name in attention.MODULES]
each_module = pytest.mark.parametrize('config', CONFIGS, ids=lambda config: config['type'])


def test_every_file_is_found():
    files = {path.stem for path in Path(attention.__file__).parent.glob('*.py')}
    assert files - {'__init__', 'base', 'checks', 'operations'} == {name.lower() for name in attention.MODULES}
    with pytest.raises(AttributeError, match=r'ean_mmdet\.attention has no CBMA; it has CA, CBAM, DIA, EAN'):
        attention.CBMA  # noqa: B018


@each_module
def test_registered_in_the_root_registry(config):
    module = MODELS.build(dict(in_channels=64, init_cfg=None, **config))
    assert isinstance(module, BaseModule)
    assert MODELS.module_dict[config['type']] is type(module) is getattr(attention, config['type'])
    assert build_plugin_layer(config, in_channels=64)[1].in_channels == 64


@each_module
def test_shape_type_and_memory_format(config):
    torch.manual_seed(0)
    module = MODELS.build(dict(in_channels=64, **config)).eval()
    x = torch.randn(2, 64, 6, 5)
    y = module(x)
    assert y.shape == x.shape and y.dtype == x.dtype
    torch.testing.assert_close(module(x.contiguous(memory_format=torch.channels_last)), y)
    assert module(torch.randn(1, 64, 1, 1)).isfinite().all()
    with pytest.raises(ValueError, match=rf'{config["type"]}: expected a feature map of shape \(N, 64, H, W\)'):
        module(torch.randn(2, 32, 6, 5))


@each_module
def test_copy_and_pickle(config):
    module = MODELS.build(dict(in_channels=64, **config)).eval()
    x = torch.randn(2, 64, 6, 5)
    torch.testing.assert_close(copy.deepcopy(module)(x), module(x))
    torch.testing.assert_close(pickle.loads(pickle.dumps(module))(x), module(x))


@each_module
def test_trains_a_step(config):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 64, 3), MODELS.build(dict(in_channels=64, **config)))
    optimizer = torch.optim.SGD(net.parameters(), lr=1e-2)
    x, target = torch.randn(4, 3, 10, 10), torch.randn(4, 64, 8, 8)
    losses = []
    for _ in range(5):
        loss = (net(x) - target).square().mean()
        optimizer.zero_grad()
        loss.backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]


@pytest.mark.parametrize('config', [*CONFIGS, dict(type='AN')], ids=lambda config: config['type'])
def test_mixed_precision(config):
    torch.manual_seed(0)
    argument = 'num_features' if config['type'] == 'AN' else 'in_channels'
    net = nn.Sequential(nn.Conv2d(3, 64, 3), MODELS.build({argument: 64, **config}))
    x = torch.randn(4, 3, 10, 10)
    exact = net(x)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        y = net(x)  # the module's input is bfloat16, the convolution's output
        y.float().square().mean().backward()
    torch.testing.assert_close(y.float(), exact, rtol=0.1, atol=0.15)
    assert all(p.dtype == torch.float32 and p.grad.isfinite().all() for p in net.parameters())


@each_module
def test_in_mobilenext_by_name(config):
    sharing = shared(config['type'])
    backbone = MobileNeXt(attention=config, out_indices=(7,), shared=sharing)
    assert sum(type(m).__name__ == config['type'] for m in backbone.modules()) == (8 if sharing else 15)
    assert backbone.eval()(torch.rand(1, 3, 32, 32))[0].shape == (1, 1280, 1, 1)


@pytest.mark.parametrize(
    'config', [c for c in CONFIGS if c['type'] != 'EAN' and not shared(c['type'])], ids=lambda config: config['type']
)
def test_in_resnet_by_plugins(config):
    plugins = [dict(cfg=config, position='after_conv3')]
    backbone = MODELS.build(dict(type='mmdet.ResNet', depth=50, plugins=plugins))
    backbone.eval()
    assert sum(type(m).__name__ == config['type'] for m in backbone.modules()) == 16
    assert backbone(torch.rand(1, 3, 32, 32))[-1].shape == (1, 2048, 1, 1)
