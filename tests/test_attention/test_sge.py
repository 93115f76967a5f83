import pytest
import torch

from ean_mmdet.attention import SGE


def formula(x, p):
    groups = len(p['weight'])
    out = []
    for index, group in enumerate(x.chunk(groups, dim=1)):
        vector = group.mean((2, 3), keepdim=True)
        c = (vector * group).sum(1, keepdim=True)
        mean = c.mean((2, 3), keepdim=True)
        deviation = ((c - mean) ** 2).mean((2, 3), keepdim=True).sqrt()
        out.append(group * torch.sigmoid(p['weight'][index] * (c - mean) / (deviation + 1e-5) + p['bias'][index]))
    return torch.cat(out, dim=1)


@pytest.mark.parametrize('groups', [1, 4, 16])
def test_formula(assert_agrees, groups):
    assert_agrees(SGE(16, groups=groups), formula)


def test_starts_as_one_constant():
    x = torch.randn(2, 16, 5, 4)
    torch.testing.assert_close(SGE(16, groups=4)(x), x * torch.sigmoid(torch.tensor(1.0)))


@pytest.mark.parametrize('x', [torch.rand(2, 16, 1, 1), torch.ones(2, 16, 3, 3), torch.zeros(2, 16, 3, 3)])
def test_planes_without_variance(x):
    x.requires_grad_()
    module = SGE(16, groups=4)
    module.weight.data.fill_(1)
    module(x).sum().backward()
    assert x.grad.isfinite().all() and module.weight.grad.isfinite().all()


def test_groups():
    with pytest.raises(ValueError, match=r'groups=64; groups can be one of \[1, 2, 4, 8, 16\] here'):
        SGE(16)
