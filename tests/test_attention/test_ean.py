import copy

import pytest
import torch
from mmengine.registry import MODELS
from torch import nn

from ean_mmdet.attention import EAN
from tests.reference import plain_ean

WEIGHT_NORMS = ('l2', 'rms', 'l1')


def randomized(*args, **kwargs) -> EAN:
    module = EAN(*args, **kwargs)
    for parameter in module.parameters():
        nn.init.normal_(parameter, mean=0.3)
    return module


def plain(module: EAN, x: torch.Tensor) -> torch.Tensor:
    return plain_ean(
        x, module.weight, module.bias, module.alpha, module.delta, module.groups, module.weight_norm, module.eps
    )


@pytest.mark.parametrize('weight_norm', WEIGHT_NORMS)
@pytest.mark.parametrize('shape', [(2, 16, 7, 5), (1, 16, 1, 1), (3, 16, 1, 9), (1, 16, 40, 33)])
def test_matches_the_equations(weight_norm, shape):
    module = randomized(16, groups=4, weight_norm=weight_norm).double()
    x = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    upstream = torch.randn(shape, dtype=torch.float64)
    inputs = [x, *module.parameters()]
    ours = torch.autograd.grad((module(x) * upstream).sum(), inputs)
    reference = torch.autograd.grad((plain(module, x) * upstream).sum(), inputs)
    torch.testing.assert_close(module(x), plain(module, x), rtol=1e-10, atol=1e-12)
    for mine, theirs in zip(ours, reference):
        torch.testing.assert_close(mine, theirs, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize('weight_norm', WEIGHT_NORMS)
def test_gradcheck(weight_norm):
    module = randomized(6, groups=2, weight_norm=weight_norm).double()
    names = [name for name, _ in module.named_parameters()]

    def function(x, *values):
        return torch.func.functional_call(module, dict(zip(names, values)), (x,))

    x = torch.randn(2, 6, 3, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(function, (x, *module.parameters()))


@pytest.mark.parametrize('channels,groups', [(256, 64), (96, 8), (64, 64), (5, 1)])
def test_parameters_are_shared_by_the_groups(channels, groups):
    module = EAN(channels, groups=groups)
    shapes = {name: tuple(p.shape) for name, p in module.named_parameters()}
    assert shapes == dict.fromkeys(('weight', 'bias', 'alpha', 'delta'), (channels // groups,))


def test_halves_its_input_at_the_start():
    x = torch.randn(2, 64, 5, 5)
    torch.testing.assert_close(EAN(64)(x), x / 2, rtol=0, atol=0)


def test_is_built_by_name_from_any_scope():
    assert isinstance(MODELS.build(dict(type='EAN', in_channels=32, groups=8)), EAN)
    from mmpretrain.registry import MODELS as MMPRETRAIN_MODELS

    assert isinstance(MMPRETRAIN_MODELS.build(dict(type='EAN', in_channels=32, groups=8)), EAN)


@pytest.mark.parametrize('groups', [7, 0, 128])
def test_groups_that_do_not_divide_are_named(groups):
    with pytest.raises(ValueError, match=rf'in_channels=64 .*groups={groups}.*\[1, 2, 4, 8, 16, 32, 64\]'):
        EAN(64, groups=groups)


def test_unknown_weight_norm_is_named():
    with pytest.raises(ValueError, match=r"l2, rms, l1, got 'L2'"):
        EAN(64, weight_norm='L2')


def test_wrong_channel_count_is_named():
    with pytest.raises(ValueError, match=r'\(N, 64, H, W\), got \(1, 32, 4, 4\)'):
        EAN(64)(torch.rand(1, 32, 4, 4))


@pytest.mark.parametrize('memory_format', [torch.contiguous_format, torch.channels_last])
def test_autocast_keeps_statistics_in_float32(memory_format):
    module = randomized(32, groups=8)
    # A mean far above the spread: in bfloat16 statistics the mask would be noise.
    x = (100 + torch.randn(2, 32, 16, 16)).to(torch.bfloat16).to(memory_format=memory_format)
    with torch.autocast('cpu', torch.bfloat16):
        y = module(x)
    assert y.dtype == torch.bfloat16
    assert y.is_contiguous(memory_format=memory_format)
    torch.testing.assert_close(y.double(), plain(copy.deepcopy(module).double(), x.double()), rtol=1e-2, atol=1e-2)


def test_compiles_without_a_graph_break():
    module = randomized(16, groups=4)
    x = torch.randn(2, 16, 6, 6)
    torch.testing.assert_close(torch.compile(module, fullgraph=True)(x), module(x), rtol=1e-5, atol=1e-5)


def test_deepcopy_is_independent():
    module = randomized(16, groups=4)
    twin = copy.deepcopy(module)
    x = torch.randn(1, 16, 4, 4)
    before = module(x)
    nn.init.ones_(twin.delta)
    torch.testing.assert_close(module(x), before, rtol=0, atol=0)
    assert not torch.equal(twin(x), before)


def test_averages_in_an_ema():
    from mmengine.model import ExponentialMovingAverage

    module = EAN(16, groups=4)
    average = ExponentialMovingAverage(module, momentum=0.5)
    nn.init.ones_(module.alpha)
    average.update_parameters(module)
    average.update_parameters(module)
    assert 0 < average.module.alpha.mean() <= 1
