import pytest
import torch
from mmcv.cnn import ConvModule
from timm.layers import create_attn
from torch.nn import functional as F

import ean_mmdet
from ean_mmdet.attention import GC


def transformed(x, p, branch):
    logits = torch.einsum('nchw,c->nhw', x, p['gate.conv_attn.weight'].flatten()) + p['gate.conv_attn.bias']
    context = torch.einsum('nchw,nhw->nc', x, logits.flatten(1).softmax(1).view_as(logits))
    layers = {key.removeprefix(f'gate.{branch}.'): value for key, value in p.items() if branch in key}
    hidden = context @ layers['fc1.weight'].flatten(1).T + layers['fc1.bias']
    hidden = F.layer_norm(hidden, hidden.shape[1:], layers['norm.weight'], layers['norm.bias'], eps=1e-6)
    return (hidden.relu() @ layers['fc2.weight'].flatten(1).T + layers['fc2.bias'])[:, :, None, None]


@pytest.mark.parametrize('fusion', ['add', 'scale'])
def test_formula(assert_agrees, fusion):
    def formula(x, p):
        t = transformed(x, p, f'mlp_{fusion}')
        return x + t if fusion == 'add' else x * t.sigmoid()

    assert_agrees(GC(16, ratio=4, fusion=fusion), formula)


@pytest.mark.parametrize(('fusion', 'name'), [('add', 'gca'), ('scale', 'gc')])
def test_is_timms(fusion, name):
    theirs = create_attn(name, 64, rd_ratio=1 / 16).eval()
    module = GC(64, fusion=fusion).eval()
    for parameter in theirs.parameters():
        parameter.data.normal_()
    module.gate.load_state_dict(theirs.state_dict())
    x = torch.randn(2, 64, 7, 5)
    torch.testing.assert_close(module(x), theirs(x))


@pytest.mark.parametrize(('fusion', 'scale'), [('add', 1), ('scale', 2)])
def test_keeps_the_function_of_a_network(fusion, scale):
    network = ConvModule(3, 32, 3, norm_cfg=dict(type='BN'), act_cfg=None).eval()
    x = torch.randn(2, 3, 8, 8)
    before = network(x)
    report = ean_mmdet.attach(network, 'GC', at=['bn'], fusion=fusion)
    assert [round(place.scale, 5) for place in report.positions] == [scale]
    torch.testing.assert_close(network(x), before)


def test_unknown_fusion():
    with pytest.raises(ValueError, match="fusion must be 'add' or 'scale', got 'mul'"):
        GC(16, fusion='mul')
