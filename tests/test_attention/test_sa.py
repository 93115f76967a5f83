import pytest
import torch

from ean_mmdet.attention import SA


def formula(x, p):
    half = len(p['channel_weight'])
    groups = x.shape[1] // (2 * half)

    def column(name):
        return p[name][:, None, None]

    out = []
    for group in x.chunk(groups, dim=1):
        first, second = group[:, :half], group[:, half:]
        mean = second.mean((2, 3), keepdim=True)
        var = ((second - mean) ** 2).mean((2, 3), keepdim=True)
        normalized = (second - mean) / (var + 1e-5).sqrt() * column('norm.weight') + column('norm.bias')
        channel = first.mean((2, 3), keepdim=True) * column('channel_weight') + column('channel_bias')
        out += [
            first * torch.sigmoid(channel),
            second * torch.sigmoid(normalized * column('spatial_weight') + column('spatial_bias')),
        ]
    gated = torch.cat(out, dim=1)
    # the shuffle: channel i of the first half next to channel i of the second
    middle = x.shape[1] // 2
    order = [channel for i in range(middle) for channel in (i, middle + i)]
    return gated[:, order]


@pytest.mark.parametrize('groups', [1, 4, 8])
def test_formula(assert_agrees, groups):
    assert_agrees(SA(16, groups=groups), formula)


def test_parameters():
    assert sum(p.numel() for p in SA(256, groups=64).parameters()) == 3 * 256 // 64


def test_groups():
    with pytest.raises(ValueError, match=r'2 \* groups=128; groups can be one of \[1, 2, 4, 8\] here'):
        SA(16)
