"""Attention in a network of PyTorch modules: what attach does, and that it changes nothing else."""

import subprocess
import sys

import pytest
import torch
from torch import nn

import ean_mmdet
from ean_mmdet.attention import EAN
from ean_mmdet.insertion.positions import find_positions
from tests.test_insertion.networks import BLOCKS, NORMS, images, network

ATTENTION = [('EAN', {}), ('SE', dict(ratio=4)), ('ECA', {}), ('CA', dict(ratio=4)), ('CBAM', dict(ratio=4))]


@pytest.mark.parametrize('kind', BLOCKS)
@pytest.mark.parametrize(('attention', 'options'), ATTENTION[:4], ids=lambda value: str(value))
def test_the_network_computes_what_it_did(kind, attention, options):
    model = network(kind)
    expected, keys, names = model(images()), list(model.state_dict()), [n for n, _ in model.named_parameters()]
    report = ean_mmdet.attach(model, attention, **options)
    torch.testing.assert_close(model(images()), expected, rtol=1e-5, atol=1e-5)
    assert report.change <= 1e-5
    assert [p.norm for p in report.positions] == [NORMS[kind].replace('1', i, 1) for i in '12']
    # the network's own keys stay, in their order
    assert [key for key in model.state_dict() if '_attention.' not in key] == keys
    assert [name for name, _ in model.named_parameters() if '_attention.' not in name] == names
    # it learns
    model.train()
    for _ in range(2):
        model.zero_grad()
        model(images()).square().mean().backward()
        torch.optim.SGD(model.parameters(), 0.1).step()
    attention_parameters = {n: p for n, p in model.named_parameters() if '_attention.' in n}
    assert attention_parameters and all(p.grad is not None for p in attention_parameters.values())
    if attention == 'EAN':
        assert all(p.any() for n, p in attention_parameters.items() if n.endswith('alpha'))


def test_the_table_says_what_was_done():
    model = network()
    report = ean_mmdet.attach(model, 'EAN')
    lines = str(report).splitlines()
    assert lines[1].split() == ['1.bn2', '16', 'EAN', '×', '2', 'groups=8']
    assert 'computes what it did' in lines[-1]
    assert ean_mmdet.positions(model) == report.positions
    outer = nn.ModuleDict(dict(backbone=model))
    assert [p.norm for p in ean_mmdet.positions(outer)] == ['backbone.1.bn2', 'backbone.2.bn2']
    assert ean_mmdet.positions(outer)[0].attention == 'backbone.1.bn2_attention'


def test_groups_are_the_papers_or_the_nearest_that_divide():
    def groups(channels):
        model = network(channels=channels, blocks=1)
        report = ean_mmdet.attach(model, 'EAN')
        return model[1].bn2_attention.groups, report.positions[0].note

    assert groups(128)[0] == 64
    assert groups(48)[0] == 8
    assert groups(58) == (2, 'groups=2, as 8 does not divide')
    with pytest.raises(ValueError, match='groups can be one of'):
        ean_mmdet.attach(network(channels=58), 'EAN', groups=8)


def test_attention_that_cannot_start_constant_needs_a_word():
    model = network()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with pytest.raises(ValueError, match=r'the map of PdfAM .* depends on its input .* keep_function=False'):
        ean_mmdet.attach(model, 'PdfAM')
    # as it was
    assert list(model.state_dict()) == list(before) and not ean_mmdet.positions(model)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert not model[1]._forward_pre_hooks and type(model[1].bn2) is nn.BatchNorm2d
    report = ean_mmdet.attach(model, 'PdfAM', keep_function=False)
    assert len(report.positions) == 2 and not report.kept


class Standardized(nn.Conv2d):
    """Its output doesn't scale with its weight."""

    def forward(self, x):
        weight = self.weight - self.weight.mean((1, 2, 3), keepdim=True)
        return self._conv_forward(x, weight / weight.std((1, 2, 3), keepdim=True), self.bias)


def test_a_function_that_cannot_be_kept_is_an_error():
    model = network()
    model[1].conv2 = Standardized(16, 16, 3, padding=1)
    model[1].bn2 = nn.Identity()
    with pytest.raises(ValueError, match=r'1\.conv2: the output of Standardized does not scale'):
        ean_mmdet.attach(model, 'EAN', at=r'1\.conv2')
    assert type(model[1].conv2) is Standardized
    # a norm whose weight is another's, too
    model = network()
    model[2].bn2.weight = model[1].bn1.weight
    with pytest.raises(ValueError, match=r'output of Sequential changed by .* used elsewhere too'):
        ean_mmdet.attach(model, 'EAN')
    assert not ean_mmdet.positions(model)


def test_detach_where_that_is_exact():
    model = network()
    plain, expected = {k: v.clone() for k, v in model.state_dict().items()}, model(images())
    ean_mmdet.attach(model, 'EAN')
    ean_mmdet.detach(model)
    assert all(torch.equal(value, plain[key]) for key, value in model.state_dict().items())
    assert torch.equal(model(images()), expected) and not ean_mmdet.positions(model)
    assert type(model[1].bn2) is nn.BatchNorm2d and not model[1]._forward_pre_hooks
    # one that has learned
    ean_mmdet.attach(model, 'EAN')
    nn.init.ones_(model[2].bn2_attention.alpha)
    with pytest.raises(ValueError, match=r'the map of 2\.bn2_attention depends on its input'):
        ean_mmdet.detach(model)
    assert len(ean_mmdet.detach(model, keep_function=False)) == 2
    with pytest.raises(ValueError, match='no attention that was attached'):
        ean_mmdet.detach(model)


def test_what_builds_a_module_can_be_anything():
    model = network()
    expected = model(images())
    ean_mmdet.attach(model, lambda channels, groups: EAN(channels, groups, weight_norm='rms'), groups=2)
    assert model[1].bn2_attention.groups == 2
    torch.testing.assert_close(model(images()), expected)


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (dict(attention='ean'), "attention must be one of CA, CBAM, .*, or a class or function, got 'ean'"),
        (dict(at='1.bn9'), r"no module of Sequential matches '1\.bn9'; near names are .*1\.bn"),
        (dict(at='(1'), 'is no regular expression'),
        (dict(at='1'), r"cannot tell how many channels '1' \(ResidualBlock\) gives"),
        (dict(shared='network'), "shared must be None or 'stage', got 'network'"),
        (
            dict(connections=[1]),
            r'connections must have a 0 or 1 for each of the 2 positions \(1.bn2 to 2.bn2\), got 1',
        ),
        (dict(connections=[0, 0]), 'connections are all 0'),
        (dict(connections=[1, 2]), 'connections must be 0 or 1 each'),
        (dict(attention='DIA'), "DIA is shared by a stage's blocks; set shared='stage'"),
        (dict(attention='CA', ratio=32), "attention cannot follow '1.bn2', which gives 16 channels: CA: ratio must be"),
    ],
)
def test_bad_arguments_leave_the_network_as_it_was(arguments, message):
    model = network()
    keys = list(model.state_dict())
    with pytest.raises(ValueError, match=message):
        ean_mmdet.attach(model, **{'attention': 'EAN', **arguments})
    assert list(model.state_dict()) == keys
    ean_mmdet.attach(model, 'EAN')
    with pytest.raises(ValueError, match=r"'1\.bn2' is followed by attention already"):
        ean_mmdet.attach(model, 'EAN')


def test_a_network_without_known_blocks_says_so():
    with pytest.raises(ValueError, match=r"'auto' knows no position in Sequential.*name the modules.* as 0, 1"):
        ean_mmdet.attach(nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8)))


@pytest.mark.parametrize(
    ('library', 'name', 'number', 'first'),
    [
        ('torchvision', 'resnet50', 16, 'layer1.0.bn3'),
        ('torchvision', 'resnext50_32x4d', 16, 'layer1.0.bn3'),
        ('torchvision', 'wide_resnet50_2', 16, 'layer1.0.bn3'),
        ('torchvision', 'regnet_x_400mf', 22, 'trunk_output.block1.block1-0.f.c.1'),
        ('torchvision', 'mobilenet_v2', 16, 'features.2.conv.0.1'),
        ('torchvision', 'mobilenet_v3_large', 14, 'features.2.block.0.1'),
        ('torchvision', 'efficientnet_b0', 15, 'features.2.0.block.0.1'),
        ('torchvision', 'efficientnet_v2_s', 38, 'features.2.0.block.0.1'),
        ('torchvision', 'shufflenet_v2_x1_0', 16, 'stage2.0.branch2.6'),
        ('torchvision', 'densenet121', 58, 'features.denseblock1.denselayer1.conv2'),
        ('torchvision', 'vgg11', 8, 'features.0'),
        ('torchvision', 'vgg11_bn', 8, 'features.1'),
        ('timm', 'resnetv2_50', 16, 'stages.0.blocks.0.conv3'),
        ('timm', 'mobilenetv2_100', 16, 'blocks.1.0.bn1'),
        ('timm', 'darknet53', 23, 'stages.0.blocks.0.conv2.bn'),
        ('timm', 'cspdarknet53', 23, 'stages.0.blocks.0.conv2.bn'),
        ('torchvision', 'googlenet', None, "'auto' knows no position in GoogLeNet"),
        ('torchvision', 'convnext_tiny', None, 'the blocks of ConvNeXt have no norm behind their last layer'),
        ('timm', 'convnextv2_atto', None, 'the blocks of ConvNeXt have no norm behind their last layer'),
    ],
)
def test_auto_knows_the_blocks_of_libraries(library, name, number, first):
    module = pytest.importorskip(library)
    build = module.create_model if library == 'timm' else module.models.get_model
    with torch.device('cpu' if 'regnet' in name else 'meta'):  # which computes its widths
        model = build(name)
    if number is None:
        with pytest.raises(ValueError, match=first):
            find_positions(model, 'auto', 'attach')
        return
    found = find_positions(model, 'auto', 'attach')
    assert (len(found), found[0].norm) == (number, first)


def test_in_another_precision_and_without_an_image():
    class TakesDicts(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = network().bfloat16()

        def forward(self, batch):
            return self.body(*batch.values())

    model = TakesDicts()
    assert model.training and not model.body.training  # and stays so
    expected = model(dict(image=images().bfloat16()))
    report = ean_mmdet.attach(model, 'EAN')
    assert report.change is None and 'each norm alone' in str(report)
    assert model.body[1].bn2_attention.alpha.dtype == torch.bfloat16
    torch.testing.assert_close(model(dict(image=images().bfloat16())), expected)


@pytest.mark.slow
def test_pytorch_alone_is_enough():
    code = (
        'import sys\n'
        'for name in ("mmengine", "mmcv", "mmdet", "mmpretrain", "timm", "torchvision", "ultralytics"):\n'
        '    sys.modules[name] = None\n'
        'import importlib.util, importlib\n'
        'find = importlib.util.find_spec\n'
        'importlib.util.find_spec = lambda name, *a: None if name.startswith("mm") else find(name, *a)\n'
        'import ean_mmdet\n'
        'from tests.test_insertion.networks import network\n'
        'print(ean_mmdet.attach(network(), "EAN"))\n'
    )
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert 'computes what it did' in done.stdout


def test_a_sequential_alone_is_refused_and_as_a_part_it_works():
    layers = nn.Sequential(nn.Conv2d(3, 16, 3), nn.BatchNorm2d(16), nn.ReLU())
    keys = list(layers.state_dict())
    with pytest.raises(ValueError, match=r"the model is itself a Sequential, .*behind '1' .* as self.layers"):
        ean_mmdet.attach(layers, 'EAN', at='1', groups=4)
    assert list(layers.state_dict()) == keys

    class Network(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = layers

        def forward(self, x):
            return self.layers(x)

    network, x = Network().eval(), torch.randn(2, 3, 8, 8)
    before = network(x)
    assert ean_mmdet.attach(network, 'EAN', at='layers.1', groups=4).kept
    torch.testing.assert_close(network(x), before)
