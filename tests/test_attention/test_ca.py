import pytest
import torch

from ean_mmdet.attention import CA


def formula(x, p, statistics=None):
    height = x.shape[2]
    sequence = torch.cat([x.mean(3), x.mean(2)], dim=2)  # (N, C, H + W)
    hidden = torch.einsum('mc,ncl->nml', p['gate.conv1.weight'].flatten(1), sequence) + p['gate.conv1.bias'][:, None]
    if statistics is None:
        mean = hidden.mean((0, 2), keepdim=True)
        var = ((hidden - mean) ** 2).mean((0, 2), keepdim=True)
    else:
        mean, var = (s[None, :, None] for s in statistics)
    hidden = (hidden - mean) / (var + 1e-5).sqrt() * p['gate.bn1.weight'][:, None] + p['gate.bn1.bias'][:, None]
    hidden = hidden * (hidden + 3).clamp(0, 6) / 6
    rows, columns = hidden[:, :, :height], hidden[:, :, height:]
    a_h = torch.sigmoid(
        torch.einsum('cm,nml->ncl', p['gate.conv_h.weight'].flatten(1), rows) + p['gate.conv_h.bias'][:, None]
    )
    a_w = torch.sigmoid(
        torch.einsum('cm,nml->ncl', p['gate.conv_w.weight'].flatten(1), columns) + p['gate.conv_w.bias'][:, None]
    )
    return x * a_h[:, :, :, None] * a_w[:, :, None, :]


def test_formula(assert_agrees):
    assert_agrees(CA(16, ratio=2).train(), formula)


def test_formula_in_evaluation(assert_agrees):
    module = CA(16, ratio=2).double()
    module(torch.randn(4, 16, 6, 6, dtype=torch.float64))
    statistics = module.gate.bn1.running_mean.clone(), module.gate.bn1.running_var.clone()
    assert_agrees(module.eval(), lambda x, p: formula(x, p, statistics))


@pytest.mark.parametrize(('channels', 'ratio', 'hidden'), [(96, 24, 8), (256, 24, 10), (2048, 32, 64)])
def test_hidden_width(channels, ratio, hidden):
    assert CA(channels, ratio=ratio).gate.conv1.out_channels == hidden


def test_ratio():
    with pytest.raises(ValueError, match='CA: ratio must be 1 to in_channels=16'):
        CA(16, ratio=24)
