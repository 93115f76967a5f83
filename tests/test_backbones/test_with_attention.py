import copy
import pickle
import warnings

import pytest
import torch
from mmcv.cnn.utils import fuse_conv_bn
from mmengine.model import ExponentialMovingAverage, revert_sync_batchnorm
from mmengine.registry import MODELS
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from ean_mmdet import positions
from ean_mmdet.attention import EAN, SE

SSD_VGG = dict(type='mmdet.SSDVGG', depth=16, with_last_pool=False, ceil_mode=True, out_feature_indices=(22, 34))
CSP_NANO = dict(type='mmdet.CSPDarknet', deepen_factor=0.33, widen_factor=0.25)

# backbone, number of places, the first of them, its channels
PLACES = [
    (dict(type='mmpretrain.VGG', depth=11, norm_cfg=dict(type='BN')), 8, 'features.0.bn', 64),
    (dict(type='mmpretrain.VGG', depth=11), 8, 'features.0.conv', 64),
    (SSD_VGG, 15, 'features.0', 64),
    (dict(type='mmdet.ResNet', depth=18, base_channels=16), 8, 'layer1.0.bn2', 16),
    (dict(type='mmdet.ResNet', depth=50, base_channels=16), 16, 'layer1.0.bn3', 64),
    (dict(type='mmdet.ResNetV1d', depth=50, base_channels=16), 16, 'layer1.0.bn3', 64),
    (dict(type='mmpretrain.ResNet', depth=18), 8, 'layer1.0.bn2', 64),
    (dict(type='mmpretrain.ResNet', depth=50), 16, 'layer1.0.bn3', 256),
    # Wide ResNet, as MMPretrain's configs have it
    (
        dict(type='mmpretrain.ResNet', depth=50, stem_channels=64, base_channels=128, expansion=2),
        16,
        'layer1.0.bn3',
        256,
    ),
    (dict(type='mmpretrain.ResNet_CIFAR', depth=18), 8, 'layer1.0.bn2', 64),
    (dict(type='mmdet.ResNeXt', depth=50, groups=32, base_width=4), 16, 'layer1.0.bn3', 256),
    (dict(type='mmpretrain.ResNeXt', depth=50), 16, 'layer1.0.bn3', 256),
    (dict(type='mmdet.Res2Net', depth=50, scales=4, base_width=26), 16, 'layer1.0.bn3', 256),
    (dict(type='mmpretrain.Res2Net', depth=50), 16, 'layer1.0.bn3', 256),
    (dict(type='mmdet.RegNet', arch='regnetx_400mf'), 22, 'layer1.0.bn3', 32),
    (dict(type='mmpretrain.RegNet', arch='regnetx_400mf'), 22, 'layer1.0.bn3', 32),
    (dict(type='mmdet.MobileNetV2'), 16, 'layer2.0.expand_conv.bn', 96),
    (dict(type='mmpretrain.MobileNetV2'), 16, 'layer2.0.conv.0.bn', 96),
    (dict(type='mmpretrain.MobileNetV3', arch='small'), 10, 'layer2.expand_conv.bn', 72),
    (dict(type='mmpretrain.ShuffleNetV2', widen_factor=0.5), 16, 'layers.0.0.branch2.2.bn', 24),
    (dict(type='mmdet.EfficientNet', arch='b0'), 15, 'layers.2.0.expand_conv.bn', 96),
    (dict(type='mmpretrain.EfficientNet', arch='b0'), 15, 'layers.2.0.expand_conv.bn', 96),
    (dict(type='mmpretrain.EfficientNet', arch='es'), 18, 'layers.1.0.conv1.bn', 96),
    (dict(type='mmpretrain.DenseNet', arch='121'), 58, 'stages.0.block.0.conv2', 32),
    (CSP_NANO, 8, 'stage1.1.blocks.0.conv2.bn', 16),
    ({**CSP_NANO, 'use_depthwise': True}, 8, 'stage1.1.blocks.0.conv2.pointwise_conv.bn', 16),
    (dict(type='mmpretrain.CSPDarkNet', depth=53), 23, 'stages.0.blocks.0.conv2.bn', 64),
]
SMALL = dict(type='mmdet.ResNet', depth=18, base_channels=8, norm_eval=False)


def build(backbone=SMALL, attention=None, **kwargs):
    """A backbone with EAN, its learned vectors at random so that every module tells."""
    torch.manual_seed(0)
    built = MODELS.build(
        dict(type='WithAttention', backbone=backbone, attention=attention or dict(type='EAN', groups=8), **kwargs)
    )
    for module in built.modules():
        if isinstance(module, EAN):
            for parameter in (module.alpha, module.delta):
                nn.init.normal_(parameter)
    return built


def outputs(backbone, x):
    with torch.no_grad():
        result = backbone(x)
    return result if isinstance(result, (tuple, list)) else (result,)


def assert_same(actual, expected, **tolerance):
    assert len(actual) == len(expected)
    for first, second in zip(actual, expected):
        torch.testing.assert_close(first, second, **tolerance)


@pytest.mark.parametrize(('config', 'number', 'first', 'channels'), PLACES, ids=lambda value: str(value)[:60])
def test_auto_place(config, number, first, channels):
    torch.manual_seed(0)
    plain = MODELS.build(config)
    backbone = build(config)
    attentions = {name: m for name, m in backbone.named_modules() if isinstance(m, EAN)}
    assert len(attentions) == number
    assert type(backbone) is type(plain)

    # the keys: the plain network's, and the attention's beside them
    added = set(backbone.state_dict()) - set(plain.state_dict())
    assert set(plain.state_dict()) <= set(backbone.state_dict())
    assert added == {f'{name}.{p}' for name in attentions for p in ('weight', 'bias', 'alpha', 'delta')}
    assert not backbone.load_state_dict(plain.state_dict(), strict=False).unexpected_keys

    # the place: what goes into the first attention is what comes out of the named module
    seen = {}
    attention = next(iter(attentions.values()))
    attention.register_forward_pre_hook(lambda module, args: seen.update(given=args[0].clone()))
    handle = plain.get_submodule(first).register_forward_hook(lambda m, args, out: seen.update(expected=out.clone()))
    plain.eval()
    backbone.eval()
    x = torch.rand(1, 3, 64, 64)
    outputs(backbone, x)
    expected = outputs(plain, x)
    handle.remove()
    assert attention.in_channels == channels == seen['given'].shape[1]
    torch.testing.assert_close(seen['given'], seen['expected'])

    # every one of them takes part: wide open, they leave the plain network; each alone, closed, does not
    for attention in attentions.values():
        nn.init.zeros_(attention.alpha)
        nn.init.constant_(attention.delta, 100)
    assert_same(outputs(backbone, x), expected)
    found = positions(backbone)
    assert [(p.norm, p.channels) for p in found[:1]] == [(first, channels)] and len(found) == number


def test_attention_is_applied_where_it_stands():
    backbone = build(after='layer2.0.bn2', attention=dict(type='SE', ratio=4))
    backbone.eval()
    x = torch.rand(1, 3, 64, 64)
    seen = {}
    backbone.layer2[0].bn2.register_forward_hook(lambda m, args, out: seen.update(out=out.clone()), prepend=False)
    backbone.layer2[0].conv2.register_forward_hook(lambda m, args, out: seen.update(conv=out.clone()))
    outputs(backbone, x)
    bn = backbone.layer2[0].bn2
    norm = nn.functional.batch_norm(seen['conv'], bn.running_mean, bn.running_var)
    torch.testing.assert_close(seen['out'], backbone.layer2[0].bn2_attention(norm))


def test_patterns():
    backbone = build(after=r'layer4.*\.bn\d')
    names = [name for name, m in backbone.named_modules() if isinstance(m, EAN)]
    assert sorted(names) == [f'layer4.{i}.bn{j}_attention' for i in (0, 1) for j in (1, 2)]
    several = build(after=['layer1.0.bn1', r'layer2\.0\.downsample\.1'])
    names = [name for name, m in several.named_modules() if isinstance(m, EAN)]
    # what follows a member of a Sequential belongs to the block around it, which runs the Sequential as it was
    assert sorted(names) == ['layer1.0.bn1_attention', 'layer2.0.downsample_1_attention']


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (
            dict(after='layer1.0.bn9'),
            r"no module of ResNet matches 'layer1.0.bn9'; near names are .*layer1\.0\.bn",
        ),
        (dict(after='qqq'), r"matches 'qqq'; it has names as .*layer4\.1\.bn2"),
        (dict(after=['layer1.0.bn1', 'layer[9].*']), r"matches 'layer\[9\]"),
        (dict(after='layer(1'), 'is no regular expression'),
        (dict(after='layer1'), r"cannot tell how many channels 'layer1' \(ResLayer\) gives"),
        (
            dict(attention=dict(type='EAN', groups=48)),
            r"attention cannot follow 'layer1.0.bn2', which gives 8 channels: .*groups can be one of \[1, 2, 4, 8\]",
        ),
        (
            dict(attention=dict(type='CA', ratio=32)),
            "attention cannot follow 'layer1.0.bn2', which gives 8 channels: CA",
        ),
        (
            dict(backbone=dict(type='mmpretrain.LeNet5')),
            "'auto' knows no position in LeNet5, only in the blocks of VGG, ResNet.* as features",
        ),
        (
            dict(backbone=dict(type='WithAttention', backbone=SMALL, attention=dict(type='SE', ratio=4))),
            "'layer1.0.bn2' is followed by attention already",
        ),
    ],
)
def test_errors(arguments, message):
    with pytest.raises(ValueError, match=message):
        build(**arguments)


def test_shufflenet_of_width_one_names_the_layer():
    # 58 channels: the paper's 8 groups do not divide them
    with pytest.raises(ValueError, match=r"'layers\.0\.0\.branch2\.2\.bn', which gives 58 channels.*\[1, 2, 29, 58\]"):
        build(dict(type='mmpretrain.ShuffleNetV2', widen_factor=1.0))


@pytest.fixture
def backbone():
    backbone = build()
    backbone(torch.rand(4, 3, 64, 64))  # statistics
    backbone.eval()
    return backbone


@pytest.fixture
def x():
    return torch.rand(2, 3, 64, 64)


def close(backbone):
    """Shut every attention of the backbone."""
    for module in backbone.modules():
        if isinstance(module, EAN):
            nn.init.zeros_(module.alpha)
            nn.init.constant_(module.delta, -100)


def test_pretrained_checkpoint_loads(x, tmp_path):
    plain = MODELS.build(SMALL)
    plain(torch.rand(4, 3, 64, 64))
    torch.save(dict(state_dict=plain.state_dict()), tmp_path / 'plain.pth')
    init_cfg = dict(type='Pretrained', checkpoint=str(tmp_path / 'plain.pth'))
    backbone = build({**SMALL, 'init_cfg': init_cfg})
    backbone.init_weights()
    for name, value in plain.state_dict().items():
        torch.testing.assert_close(backbone.state_dict()[name], value)


def test_initialization_does_not_reach_the_attention():
    # MMDetection zeroes a block's last norm, and all that is in it
    backbone = build()
    before = copy.deepcopy(backbone.state_dict())
    backbone.init_weights()
    assert not backbone.layer1[0].bn2.weight.any()
    for name, value in backbone.state_dict().items():
        if '_attention.' in name:
            torch.testing.assert_close(value, before[name])


def test_deepcopy_has_its_own_attention(backbone, x):
    expected = outputs(backbone, x)
    copied = copy.deepcopy(backbone)
    assert_same(outputs(copied, x), expected)
    close(copied)
    assert_same(outputs(backbone, x), expected)
    assert not torch.equal(outputs(copied, x)[-1], expected[-1])


def test_pickle_and_torch_save(backbone, x, tmp_path):
    expected = outputs(backbone, x)
    assert_same(outputs(pickle.loads(pickle.dumps(backbone)), x), expected)
    torch.save(backbone, tmp_path / 'backbone.pt')
    loaded = torch.load(tmp_path / 'backbone.pt', weights_only=False)
    close(loaded)
    assert not torch.equal(outputs(loaded, x)[-1], expected[-1])


def test_ema(backbone, x):
    expected = outputs(backbone, x)
    ema = ExponentialMovingAverage(backbone, momentum=0.5)
    ema.update_parameters(backbone)
    close(backbone)
    assert_same(outputs(ema, x), expected)
    ema.update_parameters(backbone)
    delta = ema.module.layer1[0].bn2_attention.delta
    assert (delta < -40).all()  # half way to -100


def test_train_and_eval_and_frozen_stages():
    backbone = build({**SMALL, 'frozen_stages': 1, 'norm_eval': True})
    # frozen from the start, before an optimizer or a DistributedDataParallel asks
    assert not any(p.requires_grad for p in backbone.layer1.parameters())
    assert all(p.requires_grad for p in backbone.layer2.parameters())
    backbone.train()
    assert not any(m.training for m in backbone.modules() if isinstance(m, nn.BatchNorm2d))


def test_synchronized_batch_norm(backbone, x):
    expected = outputs(backbone, x)
    converted = nn.SyncBatchNorm.convert_sync_batchnorm(copy.deepcopy(backbone))
    assert sum(isinstance(m, nn.SyncBatchNorm) for m in converted.modules()) == 20
    assert_same(outputs(converted, x), expected)
    assert_same(outputs(revert_sync_batchnorm(converted), x), expected)


def test_fused_batch_norm(backbone, x):
    expected = outputs(backbone, x)
    fused = fuse_conv_bn(copy.deepcopy(backbone))
    assert not any(isinstance(m, nn.BatchNorm2d) for m in fused.modules())
    assert_same(outputs(fused, x), expected, rtol=1e-4, atol=1e-5)


def test_torch_compile(backbone, x):
    expected = outputs(backbone, x)
    torch._dynamo.reset()
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        compiled = torch.compile(backbone, backend='eager', fullgraph=True)
        assert_same(outputs(compiled, x), expected)
    close(backbone)
    assert not torch.equal(outputs(compiled, x)[-1], expected[-1])
    torch._dynamo.reset()


def test_distributed_data_parallel(tmp_path, x):
    backbone = build(attention=dict(type='SE', ratio=4))
    torch.distributed.init_process_group('gloo', init_method=f'file://{tmp_path}/store', rank=0, world_size=1)
    try:
        parallel = DistributedDataParallel(backbone)
        optimizer = torch.optim.SGD(parallel.parameters(), lr=0.1)
        for _ in range(2):  # an unused parameter would be an error in the second step
            optimizer.zero_grad()
            sum(out.mean() for out in parallel(x)).backward()
            optimizer.step()
    finally:
        torch.distributed.destroy_process_group()
    assert all(m.gate.fc1.weight.grad.any() for m in backbone.modules() if isinstance(m, SE))


def test_gradient_checkpointing(x):
    torch.manual_seed(0)
    plain, checkpointed = build(), build({**SMALL, 'with_cp': True})
    checkpointed.load_state_dict(plain.state_dict())
    gradients = []
    for backbone in (plain, checkpointed):
        sum(out.mean() for out in backbone(x.clone().requires_grad_())).backward()
        gradients.append([m.alpha.grad for m in backbone.modules() if isinstance(m, EAN)])
    assert_same(*gradients)


def test_in_a_detector():
    from mmdet.testing import demo_mm_inputs
    from mmengine.registry import DefaultScope

    config = dict(
        type='YOLOX',
        data_preprocessor=dict(type='DetDataPreprocessor'),
        backbone=dict(
            type='WithAttention',
            backbone=dict(type='CSPDarknet', deepen_factor=0.33, widen_factor=0.25),
            attention=dict(type='ELA', variant='B'),
        ),
        neck=dict(type='YOLOXPAFPN', in_channels=[64, 128, 256], out_channels=64, num_csp_blocks=1),
        bbox_head=dict(type='YOLOXHead', num_classes=3, in_channels=64, feat_channels=64),
        train_cfg=dict(assigner=dict(type='SimOTAAssigner', center_radius=2.5)),
    )
    with DefaultScope.overwrite_default_scope('mmdet'):
        detector = MODELS.build(config)
        data = detector.data_preprocessor(demo_mm_inputs(2, [[3, 64, 64]] * 2, num_classes=3), training=True)
        losses = detector(**data, mode='loss')
        sum(value for value in losses.values() if value.requires_grad).backward()
    attention = detector.backbone.stage1[1].blocks[0].conv2.bn_attention
    assert attention.conv.weight.grad.any()
