import copy
import logging
import re

import pytest
import timm
import torch
import torchvision
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.registry import MODELS, DefaultScope
from torch import nn

from ean_mmdet.attention import EAN
from ean_mmdet.checkpoint import load_weights
from ean_mmdet.errors import InputError
from tests.conftest import ROOT
from tests.test_checkpoint.networks import (
    PublicEAN,
    PublicMobileNeXt,
    ResNetFeatures,
    assert_same_outputs,
    train_a_little,
)
from tests.test_tools import tiny

pytestmark = pytest.mark.slow

DTYPES = [torch.float32]  # what is compared is brought to float64 too


def save(path, content) -> str:
    torch.save(content.state_dict() if isinstance(content, nn.Module) else content, path)
    return str(path)


def warm_started(config: dict, checkpoint: str, dtype=torch.float32, **kwargs) -> nn.Module:
    network = MODELS.build(dict(config, init_cfg=dict(type='WarmStart', checkpoint=checkpoint, **kwargs))).to(dtype)
    network.init_weights()
    return network


def resnet(depth: int, **kwargs) -> dict:
    return dict(type='EANResNet', depth=depth, norm_eval=False, **kwargs)


def mobilenext(**kwargs) -> dict:
    return dict(type='EANMobileNeXt', widen_factor=0.25, groups=4, **kwargs)


@pytest.fixture(scope='module')
def torchvision_resnet18():
    torch.manual_seed(0)
    return train_a_little(torchvision.models.resnet18())


@pytest.fixture(scope='module')
def checkpoint18(torchvision_resnet18, tmp_path_factory) -> str:
    return save(tmp_path_factory.mktemp('torchvision') / 'resnet18.pth', torchvision_resnet18)


@pytest.mark.parametrize(
    'make, config',
    [
        (torchvision.models.resnet18, resnet(18)),
        (lambda: timm.create_model('resnet18d'), resnet(18, deep_stem=True, avg_down=True)),
    ],
    ids=['torchvision18', 'timm18d'],
)
def test_resnets_of_torchvision_and_timm(make, config, tmp_path):
    plain = train_a_little(make())
    path = save(tmp_path / 'plain.pth', plain)
    for dtype in DTYPES:
        network = warm_started(config, path, dtype)
        assert any(isinstance(module, EAN) for module in network.modules())
        assert_same_outputs(network, ResNetFeatures(plain.to(dtype)))


def classifier(backbone: dict, channels: int) -> dict:
    head = dict(type='LinearClsHead', num_classes=10, in_channels=channels)
    return dict(type='ImageClassifier', backbone=backbone, neck=dict(type='GlobalAveragePooling'), head=head)


@pytest.fixture
def mmpretrain_scope():
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        yield


@pytest.mark.parametrize('kind, kwargs', [('ResNet', {}), ('ResNetV1d', dict(deep_stem=True, avg_down=True))])
def test_backbone_of_an_mmpretrain_classifier(kind, kwargs, tmp_path, mmpretrain_scope):
    small = dict(depth=50, base_channels=16, stem_channels=16)
    backbone = dict(type=kind, **small, expansion=4, out_indices=(0, 1, 2, 3))
    plain = MODELS.build(classifier(backbone, 512))
    train_a_little(plain.backbone)
    path = save(tmp_path / 'epoch_1.pth', dict(meta={}, state_dict=plain.state_dict()))
    for dtype in DTYPES:
        network = warm_started(resnet(groups=16, **small, **kwargs), path, dtype)
        assert_same_outputs(network, plain.to(dtype).backbone)


def test_whole_mmpretrain_classifier(tmp_path, mmpretrain_scope):
    backbone = dict(type='MobileNeXt', widen_factor=0.25, out_indices=(7,))
    plain = train_a_little(MODELS.build(classifier(backbone, 1280)))
    path = save(tmp_path / 'plain.pth', plain)
    for dtype in DTYPES:
        network = warm_started(classifier(mobilenext(out_indices=(7,)), 1280), path, dtype)
        assert_same_outputs(network, plain.to(dtype))


def test_our_own_plain_backbone(tmp_path):
    plain = train_a_little(MODELS.build(dict(type='MobileNeXt', widen_factor=0.25)))
    path = save(tmp_path / 'plain.pth', plain)
    for dtype in DTYPES:
        assert_same_outputs(warm_started(mobilenext(), path, dtype), plain.to(dtype))


@pytest.mark.parametrize('width', [0.25, 1.0])
def test_public_mobilenext(width, tmp_path):
    plain = train_a_little(PublicMobileNeXt(width))
    # as its training script saves it, from DataParallel
    state = dict(epoch=3, state_dict={f'module.{key}': value for key, value in plain.state_dict().items()})
    path = save(tmp_path / 'plain.pth', state)
    for dtype in DTYPES:
        network = warm_started(dict(type='EANMobileNeXt', widen_factor=width, groups=4), path, dtype)
        assert_same_outputs(network, plain.to(dtype))


def with_public_ean(resnet18: nn.Module) -> nn.Module:
    """torchvision's ResNet-18 with the authors' EAN after the second norm of each block, under the name ``ean``."""

    def forward(self, x):
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.ean(self.bn2(self.conv2(out)))
        return self.relu(out + (x if self.downsample is None else self.downsample(x)))

    for stage in (resnet18.layer1, resnet18.layer2, resnet18.layer3, resnet18.layer4):
        for block in stage:
            block.ean = PublicEAN(block.bn2.num_features, 64)
            block.forward = forward.__get__(block)
    return resnet18


def test_eans_of_the_authors_code_load_as_they_are(tmp_path):
    plain = train_a_little(with_public_ean(torchvision.models.resnet18()))
    path = save(tmp_path / 'ean.pth', plain)
    with pytest.raises(InputError, match=r"weight_norm='rms', but the model's have 'l2'"):
        warm_started(resnet(18), path)
    for dtype in DTYPES:
        assert_same_outputs(warm_started(resnet(18, weight_norm='rms'), path, dtype), ResNetFeatures(plain.to(dtype)))

    # in float64, as the plain formula's rounding differs, and batch norms over a few tiny values make much of that
    plain = train_a_little(PublicMobileNeXt(0.25, groups=4)).to(torch.float64)
    path = save(tmp_path / 'mobilenext.pth', plain)
    assert_same_outputs(warm_started(mobilenext(weight_norm='rms'), path, torch.float64), plain)


def test_what_already_has_attention_is_never_scaled_twice(checkpoint18, tmp_path):
    once = warm_started(resnet(18), checkpoint18)
    path = save(tmp_path / 'once.pth', once)
    assert_same_outputs(warm_started(resnet(18), path), once)
    trained = train_a_little(once)
    again = warm_started(resnet(18), save(tmp_path / 'trained.pth', trained))
    for key, value in trained.state_dict().items():
        assert torch.equal(again.state_dict()[key], value), key


def test_some_of_the_attention_only(checkpoint18, tmp_path):
    state = warm_started(resnet(18), checkpoint18).state_dict()
    some = {key: value for key, value in state.items() if not key.startswith('layer4.1.bn2_attention.')}
    with pytest.raises(
        InputError, match=r'lacks others: it has layer1.0.bn2_attention.* and lacks layer4.1.bn2_attention'
    ):
        warm_started(resnet(18), save(tmp_path / 'some.pth', some))
    some = {key: value for key, value in state.items() if not key.endswith('layer2.0.bn2_attention.alpha')}
    with pytest.raises(InputError, match=r'lacks some of layer2.0.bn2_attention'):
        warm_started(resnet(18), save(tmp_path / 'some.pth', some))


def test_attention_that_the_model_has_not_got(checkpoint18, tmp_path):
    path = save(tmp_path / 'ean.pth', warm_started(resnet(18), checkpoint18))
    with pytest.raises(InputError, match=r'unexpected keys \(layer1.0.bn2_attention'):
        warm_started(dict(type='ResNet', depth=18), path)


def test_pretrained_keeps_the_function_too_unless_told_otherwise(torchvision_resnet18, checkpoint18):
    init_cfg = dict(type='Pretrained', checkpoint=checkpoint18)
    network = MODELS.build(dict(resnet(18), init_cfg=init_cfg))
    network.init_weights()
    assert_same_outputs(network, ResNetFeatures(torchvision_resnet18))
    network = MODELS.build(dict(resnet(18), init_cfg=dict(init_cfg, keep_function=False)))
    network.init_weights()
    with pytest.raises(AssertionError):
        assert_same_outputs(network, ResNetFeatures(torchvision_resnet18))


def test_children_that_initialize_themselves_leave_it_alone(torchvision_resnet18, checkpoint18):
    network = MODELS.build(dict(resnet(18), init_cfg=dict(type='WarmStart', checkpoint=checkpoint18)))
    for block in network.layer1:
        # what MMDetection's ResNet gives its blocks where it starts from scratch
        block.init_cfg = dict(type='Constant', val=0, override=dict(name='norm2'))
    network.init_weights()
    assert_same_outputs(network, ResNetFeatures(torchvision_resnet18))


@pytest.mark.parametrize('others', [[dict(type='Kaiming', layer='Conv2d')], [dict(type='Pretrained', checkpoint='x')]])
def test_initializers_that_would_overwrite_it(others, checkpoint18):
    network = MODELS.build(dict(resnet(18), init_cfg=[dict(type='WarmStart', checkpoint=checkpoint18), *others]))
    with pytest.raises(InputError, match='must be the last'):
        network.init_weights()


def test_initializers_before_it(torchvision_resnet18, checkpoint18):
    first = dict(type='Kaiming', layer='Conv2d')
    network = MODELS.build(dict(resnet(18), init_cfg=[first, dict(type='WarmStart', checkpoint=checkpoint18)]))
    network.init_weights()
    assert_same_outputs(network, ResNetFeatures(torchvision_resnet18))


def test_frozen_stages_too(torchvision_resnet18, checkpoint18):
    network = warm_started(dict(resnet(18), frozen_stages=2), checkpoint18)
    assert not network.layer2[0].bn2.weight.requires_grad
    image = torch.randn(1, 3, 64, 64, dtype=torch.float64)
    with torch.no_grad():
        outputs = network.double().eval()(image)
        expected = ResNetFeatures(copy.deepcopy(torchvision_resnet18).double()).eval()(image)
    torch.testing.assert_close(list(outputs), list(expected), rtol=1e-9, atol=1e-12)


def test_fewer_stages_than_the_checkpoint(torchvision_resnet18, checkpoint18):
    config = dict(resnet(18), num_stages=3, strides=(1, 2, 2), dilations=(1, 1, 1), out_indices=(0, 1, 2))
    network = warm_started(config, checkpoint18)
    image = torch.randn(1, 3, 64, 64, dtype=torch.float64)
    with torch.no_grad():
        outputs = network.double().eval()(image)
        expected = ResNetFeatures(copy.deepcopy(torchvision_resnet18).double()).eval()(image)
    torch.testing.assert_close(list(outputs), expected[:3], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    'position, plugin, mask',
    [
        ('after_conv1', dict(type='EAN', groups=4), 1 / 2),
        ('after_conv2', dict(type='EAN', groups=4), 1 / 2),
        ('after_conv3', dict(type='EAN', groups=4), 1 / 2),
        ('after_conv2', dict(type='TwoLayerGate'), 1 / 4),
        ('after_conv3', dict(type='SE', ratio=4), 1 / 2),
        ('after_conv3', dict(type='ECA'), 1 / 2),
        ('after_conv3', dict(type='CA', ratio=4), 1 / 4),
        ('after_conv3', dict(type='CBAM', ratio=4), 1 / 4),
        ('after_conv3', dict(type='ELA'), 1 / 4),
        ('after_conv3', dict(type='SGE', groups=4), torch.tensor(1.0).sigmoid().item()),
        ('after_conv3', dict(type='ContextBlock', ratio=1 / 4), 1),
    ],
    ids=lambda value: value['type'] if isinstance(value, dict) else None,
)
def test_plugins_of_a_plain_resnet(position, plugin, mask, tmp_path):
    small = dict(type='ResNet', depth=50, base_channels=16, norm_eval=False)
    plain = train_a_little(MODELS.build(dict(small, zero_init_residual=False)))
    path = save(tmp_path / 'plain.pth', plain)
    config = dict(small, plugins=[dict(cfg=plugin, position=position, stages=(False, True, True, True))])
    network = warm_started(config, path)
    norm = f'bn{position[-1]}'
    scale = getattr(network.layer2[0], norm).weight / getattr(plain.layer2[0], norm).weight
    torch.testing.assert_close(scale, torch.full_like(scale, 1 / mask))
    assert torch.equal(getattr(network.layer1[0], norm).weight, getattr(plain.layer1[0], norm).weight)
    # a factor of 1 / sigmoid(1) is rounded to float32
    assert_same_outputs(network, plain, exact=1e-5 if plugin['type'] == 'SGE' else 1e-10)


@pytest.mark.parametrize('plugin', ['SA', 'PdfAM', 'ParameterFreeGate'])
def test_masks_that_nothing_makes_constant(plugin, checkpoint18):
    config = resnet(18, plugins=[dict(cfg=dict(type=plugin), position='after_conv2')])
    if plugin == 'SA':
        config['plugins'][0]['cfg']['groups'] = 8
    with pytest.raises(InputError, match=rf'map of {plugin} .* no scaling makes up'):
        warm_started(config, checkpoint18)


@pytest.mark.parametrize(
    'backbone, kwargs',
    [
        (dict(type='mmdet.ResNet', depth=18, norm_eval=False), {}),
        # these two go on to initialize themselves after their init_cfg
        (dict(type='mmpretrain.ResNet', depth=18, out_indices=(0, 1, 2, 3)), {}),
        (dict(type='mmpretrain.ShuffleNetV2', widen_factor=0.5, out_indices=(0, 1, 2, 3)), {}),
        (dict(type='mmpretrain.MobileNetV2', widen_factor=0.25, out_indices=(3, 7)), {}),
        (dict(type='mmpretrain.VGG', depth=11, norm_cfg=dict(type='BN'), out_indices=(2, 4)), {}),
        (dict(type='MobileNeXt', widen_factor=0.25), dict(after=r'layer.*\.depthwise2\.bn')),
    ],
    ids=lambda value: value.get('type'),
)
def test_with_attention(backbone, kwargs, tmp_path):
    plain = train_a_little(MODELS.build(backbone))
    path = save(tmp_path / 'plain.pth', plain)
    init_cfg = dict(type='WarmStart', checkpoint=path)
    attention = dict(type='EAN', groups=2)
    network = MODELS.build(
        dict(type='WithAttention', backbone=dict(backbone, init_cfg=init_cfg), attention=attention, **kwargs)
    )
    network.init_weights()
    assert any(isinstance(module, EAN) for module in network.modules())
    assert_same_outputs(network, plain)
    again = MODELS.build(dict(type='WithAttention', backbone=backbone, attention=attention, **kwargs))
    again.init_cfg = dict(type='WarmStart', checkpoint=save(tmp_path / 'again.pth', network))
    again.init_weights()
    assert_same_outputs(again, network)


def test_gates_one_after_another(tmp_path):
    plain = train_a_little(MODELS.build(dict(type='MobileNeXt', widen_factor=0.25)))  # not a ResNet's keys
    with pytest.raises(InputError, match='no key in common'):
        warm_started(resnet(18), save(tmp_path / 'plain.pth', plain))
    small = dict(base_channels=8, stem_channels=8)
    plain = train_a_little(MODELS.build(dict(type='ResNet', depth=50, norm_eval=False, **small)))
    plugins = [dict(cfg=dict(type=kind), position='after_conv3') for kind in ('LastLayerSE', 'ContextBlock')]
    plugins[1]['cfg']['ratio'] = 1 / 4
    # BN, then SE (½), GCNet's context block (1: its last layer starts at zero) and EAN (½)
    network = warm_started(resnet(50, groups=4, plugins=plugins, **small), save(tmp_path / 'plain.pth', plain))
    torch.testing.assert_close(network.layer3[1].bn3.weight, plain.layer3[1].bn3.weight * 4)
    assert_same_outputs(network, plain)


def test_other_depths(checkpoint18, tmp_path):
    with pytest.raises(InputError, match=r'lacks layer1.2.*another depth|another depth.*lacks layer1.2'):
        warm_started(resnet(34), checkpoint18)
    with pytest.raises(InputError, match=r'another depth.*unexpected keys \(layer1.2'):
        warm_started(resnet(18), save(tmp_path / '34.pth', torchvision.models.resnet34()))
    with pytest.raises(InputError, match=r'another depth.*shape \(layer1.0.conv1.weight is \(64, 64, 1, 1\)'):
        warm_started(resnet(18), save(tmp_path / '50.pth', torchvision.models.resnet50()))
    with pytest.raises(InputError, match=r'no key in common.*another network'):
        warm_started(mobilenext(), save(tmp_path / 'wide.pth', PublicMobileNeXt(0.5)))


def test_prefix(torchvision_resnet18, tmp_path):
    state = {f'encoder.{key}': value for key, value in torchvision_resnet18.state_dict().items()}
    path = save(tmp_path / 'prefixed.pth', dict(state_dict=state))
    assert_same_outputs(warm_started(resnet(18), path), ResNetFeatures(torchvision_resnet18))
    with pytest.raises(InputError, match=r"no key that starts with 'decoder\.'; its keys start with encoder\."):
        warm_started(resnet(18), path, prefix='decoder')
    for prefix in ('encoder', 'encoder.'):
        assert_same_outputs(warm_started(resnet(18), path, prefix=prefix), ResNetFeatures(torchvision_resnet18))


def test_no_weights_in_it(tmp_path):
    with pytest.raises(InputError, match='holds no weights'):
        warm_started(resnet(18), save(tmp_path / 'empty.pth', dict(epoch=3)))


def hooks_of(network):
    return {name: (*m._forward_hooks, *m._forward_pre_hooks) for name, m in network.named_modules()}


def test_nothing_else_is_touched(checkpoint18):
    network = MODELS.build(dict(resnet(18), frozen_stages=1))
    network.train()
    modes = {name: module.training for name, module in network.named_modules()}
    hooks = hooks_of(network)
    network.init_cfg = dict(type='WarmStart', checkpoint=checkpoint18)
    for child in network.children():  # no random initialization, so that the generator shows what loading does
        if hasattr(child, 'init_weights'):
            child.init_weights()
    state = torch.get_rng_state()
    network.init_weights()
    assert torch.equal(torch.get_rng_state(), state)
    assert {name: module.training for name, module in network.named_modules()} == modes
    for key, value in torch.load(checkpoint18).items():
        if 'running' in key or 'num_batches' in key:
            assert torch.equal(network.state_dict()[key], value), key
    assert hooks_of(network) == hooks


def test_report(checkpoint18, caplog):
    logger = MMLogger.get_current_instance()
    logger.addHandler(caplog.handler)
    try:
        with caplog.at_level(logging.INFO, logger.name):
            warm_started(resnet(18), checkpoint18)
    finally:
        logger.removeHandler(caplog.handler)
    text = next(message for message in caplog.messages if 'starts from' in message)
    assert "source: keys as the model's" in text
    for row in (
        r'matched \| layer\*\.\*\.conv\*\.weight +\| 16 ',
        r'scaled  \| layer\*\.\*\.bn2\.\* +\| 16    \| × 2 ',
        r'skipped \| fc\.\* +\| 2 ',
        r'missing \| layer\*\.\*\.bn2_attention\.\* +\| 32    \| new attention, at its start ',
    ):
        assert re.search(row, text), row


def test_training_starts_from_it(run_tool, sample_data, tmp_path):
    plain = train_a_little(PublicMobileNeXt(0.25, last_channels=320))
    init_cfg = dict(_delete_=True, type='WarmStart', checkpoint=save(tmp_path / 'plain.pth', plain))
    config = tmp_path / 'config.py'
    config.write_text(
        f"""_base_ = {str(tiny.write_config(tmp_path, sample_data, iterations=1))!r}
model = dict(backbone=dict(init_cfg={init_cfg}))
optim_wrapper = dict(optimizer=dict(lr=0.0))
default_hooks = dict(checkpoint=dict(interval=1))
train_cfg = dict(val_interval=2)
"""
    )
    result = run_tool('train.py', config, '--work-dir', tmp_path / 'run')
    assert 'EANMobileNeXt starts from' in result.stderr + result.stdout
    trained = torch.load(tmp_path / 'run' / 'iter_1.pth')['state_dict']
    last_norm = plain.features[1].conv[9]
    torch.testing.assert_close(trained['backbone.layer1.0.depthwise2.bn.weight'], 2 * last_norm.weight.detach())
    torch.testing.assert_close(
        trained['backbone.layer1.0.depthwise1.bn.weight'], plain.features[1].conv[1].weight.detach()
    )


def test_config_of_the_paper_starts_so():
    config = Config.fromfile(ROOT / 'configs/faster_rcnn_ean_r50_coco.py')
    assert config.model.backbone.init_cfg == dict(type='WarmStart', checkpoint='torchvision://resnet50')


def test_a_refusal_leaves_the_model_as_it_was(torchvision_resnet18):
    """PdfAM's map isn't constant, which shows when the network is run with the weights in it."""
    plain = dict(type='mmdet.ResNet', depth=18, norm_eval=False)
    network = MODELS.build(dict(type='WithAttention', backbone=plain, attention=dict(type='PdfAM')))
    before = copy.deepcopy(network.state_dict())
    with pytest.raises(InputError, match='map of PdfAM'):
        load_weights(network, torchvision_resnet18.state_dict(), strict=True)
    for key, value in network.state_dict().items():
        torch.testing.assert_close(value, before[key], rtol=0, atol=0, msg=key)
    load_weights(network, torchvision_resnet18.state_dict())
    assert not torch.equal(network.state_dict()['conv1.weight'], before['conv1.weight'])
