import pytest
import torch
from mmcv.cnn import ConvModule, build_norm_layer
from torch import nn

from ean_mmdet.norms import AN

# PyTorch's hard sigmoid multiplies its gradient with 1/6 in single precision.
TOLERANCE = 1e-6


def standardize(x, dims):
    mean = x.mean(dims, keepdim=True)
    return (x - mean) / (((x - mean) ** 2).mean(dims, keepdim=True) + 1e-5).sqrt()


def formula_of(standardized, attention_norm=True):
    def formula(x, p):
        mean = x.mean((2, 3), keepdim=True)
        var = ((x - mean) ** 2).mean((2, 3), keepdim=True)
        squeezed = (mean / (var + 1e-3).sqrt()).flatten(1)
        logits = squeezed @ p['attention.0.weight'].flatten(1).T
        if attention_norm:
            logits = standardize(logits, 0) * p['attention.1.weight'] + p['attention.1.bias']
        else:
            logits = logits + p['attention.0.bias']
        mixture = (logits + 3).clamp(0, 6) / 6
        weight, bias = mixture @ p['mixture_weight'], mixture @ p['mixture_bias']
        return weight[:, :, None, None] * standardized(x) + bias[:, :, None, None]

    return formula


def test_formula_on_batch_norm(assert_agrees):
    assert_agrees(
        AN(6, num_mixtures=3),
        formula_of(lambda x: standardize(x, (0, 2, 3))),
        shape=(5, 6, 4, 3),
        gradient_tolerance=TOLERANCE,
    )


@pytest.mark.parametrize('attention_norm', ['auto', 'BN'])
def test_formula_on_group_norm(assert_agrees, attention_norm):
    module = AN(6, num_mixtures=3, norm_cfg=dict(type='GN', num_groups=2), attention_norm=attention_norm)

    def standardized(x):
        return standardize(x.view(len(x), 2, -1), 2).view_as(x)

    formula = formula_of(standardized, attention_norm == 'BN')
    assert_agrees(module, formula, shape=(5, 6, 4, 3), gradient_tolerance=TOLERANCE)


def test_evaluation_uses_running_statistics():
    torch.manual_seed(0)
    module = AN(8, num_mixtures=4)
    for _ in range(3):
        module(torch.randn(4, 8, 5, 5) * 3 + 1)
    module.eval()
    x = torch.randn(1, 8, 5, 5)  # a batch of one would not do in training
    mixture = module.attention(x.mean((2, 3), keepdim=True) / (x.var((2, 3), False, keepdim=True) + 1e-3).sqrt())
    mixture = mixture.flatten(1)
    norm = nn.functional.batch_norm(x, module.norm.running_mean, module.norm.running_var)
    expected = norm * (mixture @ module.mixture_weight)[:, :, None, None]
    torch.testing.assert_close(module(x), expected + (mixture @ module.mixture_bias)[:, :, None, None])


def test_start():
    torch.manual_seed(0)
    module = AN(512, num_mixtures=20)
    assert module.mixture_weight.shape == module.mixture_bias.shape == (20, 512)
    assert abs(module.mixture_weight.mean() - 1) < 0.01 and abs(module.mixture_bias.mean()) < 0.01
    assert abs(module.mixture_weight.std() - 0.1) < 0.01 and abs(module.mixture_bias.std() - 0.1) < 0.01


@pytest.mark.parametrize(
    ('norm_cfg', 'attention_norm', 'expected'),
    [
        (None, 'auto', nn.BatchNorm2d),
        (dict(type='SyncBN'), 'auto', nn.SyncBatchNorm),
        (dict(type='GN', num_groups=4), 'auto', None),
        (dict(type='GN', num_groups=4), 'SyncBN', nn.SyncBatchNorm),
        (dict(type='BN'), None, None),
    ],
)
def test_the_norm_of_the_attention(norm_cfg, attention_norm, expected):
    attention = AN(8, 3, norm_cfg=norm_cfg, attention_norm=attention_norm).attention
    norms = [layer for layer in attention if isinstance(layer, nn.modules.batchnorm._BatchNorm)]
    assert len(norms) == bool(expected) and all(isinstance(norm, expected) for norm in norms)
    assert (attention[0].bias is None) == bool(expected)
    assert isinstance(attention[-1], nn.Hardsigmoid)


def test_one_image_trains_without_a_norm_in_the_attention():
    AN(8, 3, norm_cfg=dict(type='GN', num_groups=4))(torch.randn(1, 8, 4, 4)).sum().backward()


def test_norm_of_mmcv():
    name, layer = build_norm_layer(dict(type='AN', num_mixtures=5, requires_grad=False), 16, postfix=2)
    assert name == 'an2' and isinstance(layer, AN) and layer.num_mixtures == 5
    assert not any(p.requires_grad for p in layer.parameters())


def test_norm_of_conv_module():
    torch.manual_seed(0)
    module = ConvModule(3, 16, 3, padding=1, norm_cfg=dict(type='AN', num_mixtures=10))
    assert isinstance(module.norm, AN) and module.conv.bias is None
    # mmcv sets weight and bias of a ConvModule's norm to constants, which must not reach the mixtures
    assert module.norm.mixture_weight.std() > 0.05
    module(torch.rand(4, 3, 8, 8)).sum().backward()
    assert all(p.grad is not None for p in module.parameters())


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (dict(num_mixtures=0), 'num_mixtures must be 1'),
        (dict(norm_cfg=dict(type='LN')), "BN, SyncBN or GN, got 'LN'"),
        (dict(attention_norm='GN'), "attention_norm must be 'auto', 'BN', 'SyncBN' or None, got 'GN'"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        AN(16, **arguments)
