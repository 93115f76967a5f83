"""Attention that blocks share, and schemes of which blocks have it."""

import copy
import pickle

import pytest
import torch
from mmengine.registry import MODELS
from torch import nn

from ean_mmdet import positions
from ean_mmdet.attention import DIA, EAN
from ean_mmdet.checkpoint import load_weights
from ean_mmdet.insertion import set_connections

pytestmark = pytest.mark.slow

RESNET = dict(type='mmdet.ResNet', depth=50, base_channels=8, norm_eval=False)
WITH = dict(type='WithAttention', backbone=RESNET, attention=dict(type='EAN', groups=4))
EAN_RESNET = dict(type='EANResNet', depth=50, base_channels=8, groups=4, norm_eval=False)
MOBILENEXT = dict(type='EANMobileNeXt', groups=8, widen_factor=0.25)
SE_MOBILENEXT = dict(type='MobileNeXt', attention=dict(type='SE', ratio=4), widen_factor=0.25)
BACKBONES = [WITH, EAN_RESNET, MOBILENEXT, SE_MOBILENEXT]
STAGES = {'WithAttention': 4, 'EANResNet': 4, 'EANMobileNeXt': 8, 'MobileNeXt': 8}
each_backbone = pytest.mark.parametrize('config', BACKBONES, ids=lambda config: config['type'])


def build(config, **options):
    torch.manual_seed(0)
    backbone = MODELS.build(dict(config, **options))
    for parameter in backbone.parameters():
        parameter.data += 0.05 * torch.randn_like(parameter)
    return backbone


def evaluated(backbone):
    """In evaluation mode; MMDetection's backbones return nothing of it."""
    backbone.eval()
    return backbone


def gates(backbone):
    return [module for module in backbone.modules() if hasattr(module, 'gate_layers')]


def blocks_of(config):
    return len(positions(build(config)))


def image():
    return torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))


def schemes(length, count=4):
    generator = torch.Generator().manual_seed(3)
    drawn = torch.randint(0, 2, (count, length), generator=generator)
    drawn[:, 1] = 1
    return drawn.tolist()


@each_backbone
def test_all_ones_unshared_is_what_there_was(config):
    plain, ones = build(config), build(config, connections=[1] * blocks_of(config))
    assert plain.state_dict().keys() == ones.state_dict().keys()
    for a, b in zip(plain(image()), ones(image())):
        assert torch.equal(a, b)


@each_backbone
def test_blocks_of_a_stage_share_the_very_same_parameters(config):
    backbone = build(config, shared='stage')
    assert len(gates(backbone)) == STAGES[config['type']]
    # each stage's is the first block's
    own = {key.rpartition('_attention.')[0] for key in backbone.state_dict() if '_attention.' in key}
    assert len(own) == STAGES[config['type']] and all(key.split('.')[1] == '0' for key in own if 'layer1' in key)
    uses = []
    for gate in gates(backbone):
        gate.register_forward_hook(lambda module, *_: uses.append(module))
    backbone(image())
    assert len(uses) == blocks_of(config) and set(uses) == set(gates(backbone))
    # a gradient from each block reaches them
    backbone(image())[-1].sum().backward()
    assert all(p.grad is not None for gate in gates(backbone) for p in gate.parameters())


@each_backbone
@pytest.mark.parametrize('shared', [None, 'stage'])
def test_a_scheme_equals_the_supernet_switched_to_it(config, shared):
    supernet = evaluated(build(config, shared=shared))
    for scheme in schemes(blocks_of(config)):
        built = evaluated(build(config, shared=shared, connections=scheme))
        missing, unexpected = built.load_state_dict(supernet.state_dict(), strict=False)
        assert not missing  # what isn't used isn't built
        assert all('_attention.' in key for key in unexpected)
        set_connections(supernet, scheme)
        for a, b in zip(supernet(image()), built(image())):
            assert torch.equal(a, b)


@each_backbone
def test_a_skipped_block_is_the_plain_networks(config):
    """With all but one off, and that one's mask undone, what is left is the plain network."""
    plain_config = dict(config, type='MobileNeXt', attention=None) if 'MobileNeXt' in config['type'] else RESNET
    plain_config = {key: value for key, value in plain_config.items() if key != 'groups'}
    scheme = [1, *[0] * (blocks_of(config) - 1)]
    backbone = evaluated(build(config, connections=scheme))
    assert len(gates(backbone)) == 1
    set_connections(backbone, [0] * len(scheme))
    plain = evaluated(MODELS.build(plain_config))
    missing, unexpected = plain.load_state_dict(backbone.state_dict(), strict=False)
    assert not missing and unexpected
    for a, b in zip(plain(image()), backbone(image())):
        torch.testing.assert_close(a, b)


@each_backbone
def test_copies_and_pickles_have_their_own(config):
    backbone = evaluated(build(config, shared='stage', connections=schemes(blocks_of(config))[0]))
    expected = backbone(image())
    for copied in (copy.deepcopy(backbone), pickle.loads(pickle.dumps(backbone))):
        for a, b in zip(copied(image()), expected):
            assert torch.equal(a, b)
        for gate in gates(copied):
            for parameter in gate.parameters():
                parameter.data.fill_(3)
        assert not torch.equal(copied(image())[-1], expected[-1])
    assert torch.equal(backbone(image())[-1], expected[-1])


@each_backbone
@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(connections=[1, 0]), r'connections must have a 0 or 1 for each of the \d+ positions \(layer1.*got 2'),
        (dict(connections='ones', value=2), 'connections must be 0 or 1 each'),
        (dict(connections='ones', value=0), 'connections are all 0; .* take the plain one'),
        (dict(shared='network'), "shared must be None or 'stage', got 'network'"),
    ],
)
def test_bad_schemes(config, options, message):
    options = dict(options)
    if options.get('connections') == 'ones':
        options['connections'] = [options.pop('value')] * blocks_of(config)
    with pytest.raises(ValueError, match=message):
        build(config, **options)


def test_a_scheme_needs_attention():
    with pytest.raises(ValueError, match='shared and connections need attention'):
        MODELS.build(dict(type='MobileNeXt', connections=[1] * 15))
    with pytest.raises(ValueError, match='ResNet has 0 positions with attention, the scheme 1 numbers'):
        set_connections(MODELS.build(RESNET), [1])
    with pytest.raises(ValueError, match='AN takes no in_channels'):
        MODELS.build(dict(WITH, attention=dict(type='AN')))


@pytest.mark.parametrize('config', [WITH, EAN_RESNET, MOBILENEXT], ids=lambda config: config['type'])
@pytest.mark.parametrize('shared', [None, 'stage'])
def test_warm_start_scales_the_norms_in_front_of_what_is_on(config, shared):
    scheme = schemes(blocks_of(config))[0]
    plain_config = dict(type='MobileNeXt', widen_factor=0.25) if 'MobileNeXt' in config['type'] else RESNET
    plain = evaluated(build(plain_config).double())
    backbone = evaluated(MODELS.build(dict(config, shared=shared, connections=scheme)).double())
    report = load_weights(backbone, plain.state_dict(), strict=True)
    assert len(report.scaled) == sum(scheme) and set(report.scaled.values()) == {2.0}
    for a, b in zip(backbone(image().double()), plain(image().double())):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-10)


def test_stages_of_other_backbones():
    shared = dict(type='WithAttention', attention=dict(type='SE', ratio=4), shared='stage')
    net = MODELS.build(dict(shared, backbone=dict(type='mmpretrain.EfficientNet', arch='b0')))
    names = [name for name, module in net.named_modules() if hasattr(module, 'gate_layers')]
    assert names[0] == 'layers.2.0.expand_conv.bn_attention'
    assert len(names) < len(positions(net)) == 15
    net = MODELS.build(dict(shared, backbone=dict(type='mmpretrain.VGG', depth=11)))
    assert [n for n, m in net.named_modules() if hasattr(m, 'gate_layers')] == [
        f'features.{index}.conv_attention' for index in (0, 2, 4, 7)
    ]


def test_dia_is_an_lstm_from_block_to_block():
    """Against torch's own LSTM, its output activation replaced."""
    torch.manual_seed(0)
    dia = DIA(8, ratio=2).double()
    maps = [torch.randn(3, 8, 4, 4, dtype=torch.float64) for _ in range(3)]
    hidden = cell = torch.zeros(3, 8, dtype=torch.float64)
    dia.begin()
    for x in maps:
        i, f, o, g = (dia.of_input(x.mean((2, 3))) + dia.of_hidden(hidden)).chunk(4, 1)
        cell = torch.sigmoid(f) * cell + torch.sigmoid(i) * torch.tanh(g)
        hidden = torch.sigmoid(o) * torch.sigmoid(cell)
        torch.testing.assert_close(dia(x), x * hidden[..., None, None])
    dia.end()
    torch.testing.assert_close(dia(maps[0]), dia(maps[0]))  # outside of a pass nothing is carried on


def test_dia_in_a_backbone_starts_anew_with_each_pass():
    config = dict(WITH, attention=dict(type='DIA'), shared='stage')
    backbone = evaluated(build(config))
    first, second = backbone(image()), backbone(image())
    assert all(torch.equal(a, b) for a, b in zip(first, second))
    assert len(gates(backbone)) == 4
    with pytest.raises(ValueError, match="DIA is shared by a stage's blocks; set shared='stage'"):
        build(dict(config, shared=None))
    with pytest.raises(ValueError, match='with_cp=False'):
        build(dict(config, backbone=dict(RESNET, with_cp=True)))


def test_shared_eans_train_and_convert():
    backbone = build(WITH, shared='stage')
    converted = nn.SyncBatchNorm.convert_sync_batchnorm(backbone)
    assert sum(isinstance(module, EAN) for module in converted.modules()) == 4
    uses = []
    for gate in gates(converted):
        gate.register_forward_hook(lambda module, *_: uses.append(module))
    evaluated(converted)(image())
    assert len(uses) == 16
