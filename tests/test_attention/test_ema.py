import pytest
import torch
from mmcv.cnn import ConvModule
from torch.nn import functional as F

import ean_mmdet
from ean_mmdet.attention import EMA


def formula(x, p, groups=4):
    """Group by group, sample by sample."""
    out = []
    for sample in x:
        for part in sample.chunk(groups):
            mix = p['conv1x1.weight'].flatten(1)
            bias = p['conv1x1.bias'][:, None]
            rows, columns = mix @ part.mean(2) + bias, mix @ part.mean(1) + bias
            gated = part * rows.sigmoid()[:, :, None] * columns.sigmoid()[:, None, :]
            centred = gated - gated.mean((1, 2), keepdim=True)
            normed = centred / (centred.square().mean((1, 2), keepdim=True) + 1e-5).sqrt()
            u = normed * p['norm.weight'][:, None, None] + p['norm.bias'][:, None, None]
            v = F.conv2d(part[None], p['conv3x3.weight'], p['conv3x3.bias'], padding=1)[0]
            a = torch.einsum('c,chw->hw', u.mean((1, 2)).softmax(0), v)
            a = a + torch.einsum('c,chw->hw', v.mean((1, 2)).softmax(0), u)
            out.append(part * a.sigmoid())
    return torch.cat(out).view_as(x)


def test_formula(assert_agrees):
    assert_agrees(EMA(16, groups=4), formula)


def test_keeps_the_function_of_a_network_and_learns():
    network = ConvModule(3, 32, 3, norm_cfg=dict(type='BN'), act_cfg=None).eval()
    x = torch.randn(2, 3, 8, 8)
    before = network(x)
    ean_mmdet.attach(network, 'EMA', at=['bn'], groups=8)
    torch.testing.assert_close(network(x), before)
    gate = next(module for module in network.modules() if isinstance(module, EMA))
    start = {name: parameter.detach().clone() for name, parameter in gate.named_parameters()}
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        network(x).square().mean().backward()
        optimizer.step()
    assert [name for name, parameter in gate.named_parameters() if torch.equal(parameter, start[name])] == []


def test_groups():
    with pytest.raises(ValueError, match='EMA: in_channels=16 must be divisible by groups=32'):
        EMA(16)
