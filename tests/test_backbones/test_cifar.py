"""The networks for CIFAR: the paper's counts, shapes, and their parents' weights."""

import pytest
import torch
from mmengine.registry import MODELS
from mmpretrain.models.backbones import DenseNet, ShuffleNetV2
from torch import nn

import ean_mmdet.backbones.cifar  # noqa: F401, registers the networks
from ean_mmdet.analysis.complexity import ComplexityCounter

# the config, its last channels, classes counted, the paper's parameters in millions and operations (Tables 1 and 2)
NETWORKS = {
    'ResNet-56': (dict(type='CIFARResNet', depth=56), 64, 100, 0.86, 0.127e9),
    'ResNeXt-29': (dict(type='CIFARResNeXt', depth=29), 1024, 10, 25.14, 4.05e9),
    'WRN-28-10': (dict(type='WideResNet', depth=28, widen_factor=10), 640, 100, 36.55, 5.96e9),
    'DenseNet-121': (dict(type='CIFARDenseNet', arch='121'), 1024, 100, 7.05, 898.23e6),
    'ShuffleNetV2': (dict(type='CIFARShuffleNetV2', widen_factor=1.0), 1024, 100, 1.36, 45.75e6),
}


@pytest.mark.parametrize('name', NETWORKS)
def test_counts_are_the_papers(name):
    cfg, channels, classes, params, operations = NETWORKS[name]
    backbone = MODELS.build(cfg)
    network = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, classes))
    count = ComplexityCounter(
        nn.ModuleDict(dict(backbone=backbone, head=network)),
        lambda model: model['head'](model['backbone'](torch.zeros(1, 3, 32, 32))[-1]),
    ).count()
    assert round(count.params / 1e6, 2) == params
    # thop counts 4 an element for a batch norm; ShuffleNetV2's operations differ, docs/model_zoo.md says why
    elements = _norm_elements(backbone)
    at_two = count.operations - 2 * elements
    if name == 'ShuffleNetV2':
        assert count.operations == 47_363_968
    else:
        digits = 10 ** (7 if operations > 1e9 else 6 if operations < 5e8 else 4)
        assert abs(at_two - operations) < digits, (at_two, operations)


def _norm_elements(backbone):
    sizes = []
    hooks = [
        m.register_forward_hook(lambda module, inputs, output: sizes.append(output.numel()))
        for m in backbone.modules()
        if isinstance(m, nn.BatchNorm2d)
    ]
    backbone.eval()
    with torch.no_grad():
        backbone(torch.zeros(1, 3, 32, 32))
    for hook in hooks:
        hook.remove()
    return sum(sizes)


@pytest.mark.parametrize(
    ('cfg', 'shape'),
    [
        (dict(type='CIFARResNet', depth=20), (64, 2, 2)),
        (dict(type='CIFARResNeXt', groups=2, width_per_group=4), (1024, 2, 2)),
        (dict(type='WideResNet', depth=10, widen_factor=1), (64, 2, 2)),
        (dict(type='CIFARShuffleNetV2', widen_factor=0.5), (1024, 1, 1)),
        (dict(type='CIFARDenseNet', arch=dict(growth_rate=4, depths=[1, 1], init_channels=8)), (10, 4, 4)),
    ],
)
def test_shapes(cfg, shape):
    assert MODELS.build(cfg)(torch.zeros(2, 3, 8, 8))[-1].shape == (2, *shape)


@pytest.mark.parametrize(('kind', 'parent'), [('CIFARShuffleNetV2', ShuffleNetV2), ('CIFARDenseNet', DenseNet)])
def test_all_but_the_stem_is_the_parents(kind, parent):
    ours, theirs = MODELS.build(dict(type=kind)).state_dict(), parent().state_dict()
    assert {key for key in ours if not key.startswith('stem.')} == {k for k in theirs if not k.startswith('stem.')}
    assert all(ours[key].shape == theirs[key].shape for key in ours if not key.startswith('stem.'))


def test_a_wide_block_is_its_formula():
    from ean_mmdet.backbones.wide_resnet import PreActBlock

    block = PreActBlock(4, 8, stride=2).double().eval()
    x = torch.randn(2, 4, 6, 6, dtype=torch.float64)
    bn1, bn2 = (
        lambda z, n=n: nn.functional.batch_norm(z, n.running_mean, n.running_var, n.weight, n.bias)
        for n in (block.bn1, block.bn2)
    )
    inner = nn.functional.conv2d(bn1(x).clamp_min(0), block.conv1.weight, block.conv1.bias, padding=1)
    outer = nn.functional.conv2d(bn2(inner).clamp_min(0), block.conv2.weight, block.conv2.bias, stride=2, padding=1)
    shortcut = nn.functional.conv2d(x, block.shortcut.weight, block.shortcut.bias, stride=2)
    torch.testing.assert_close(block(x), outer + shortcut)


@pytest.mark.parametrize(
    ('cfg', 'message'),
    [
        (dict(depth=27), r'depth must be 6n \+ 4.*got 27'),
        (dict(widen_factor=0), 'widen_factor must be 1 at least, got 0'),
    ],
)
def test_bad_arguments(cfg, message):
    with pytest.raises(ValueError, match=message):
        MODELS.build(dict(type='WideResNet', **cfg))
