import copy

import pytest
import torch
from mmengine.registry import MODELS, DefaultScope
from mmpretrain.structures import DataSample
from torch import nn

from ean_mmdet.attention import EAN
from tests.test_backbones.test_mobilenext import count, step

BLOCKS = {18: 8, 34: 16, 50: 16, 101: 33, 152: 50}


def build(depth=18, **kwargs):
    return MODELS.build(dict(type='EANResNet', depth=depth, **kwargs))


def small(depth=18, **kwargs):
    return build(depth, base_channels=8, groups=4, **kwargs)


def eans(backbone):
    return [module for module in backbone.modules() if isinstance(module, EAN)]


@pytest.mark.parametrize('depth', BLOCKS)
def test_one_ean_a_block(depth):
    assert len(eans(build(depth))) == BLOCKS[depth]


def test_parameters_are_the_papers():
    plain = MODELS.build(dict(type='mmdet.ResNet', depth=50))
    assert count(plain) + 2048 * 1000 + 1000 == 25_557_032  # 25.56 M
    assert count(build(50)) - count(plain) == 944


def test_keys_are_those_of_resnet_and_ean():
    plain = set(MODELS.build(dict(type='mmdet.ResNet', depth=50)).state_dict())
    added = set(build(50).state_dict()) - plain
    assert set(build(50).state_dict()) >= plain
    assert {key.rsplit('.', 2)[1] for key in added} == {'bn3_attention'}
    assert 'layer1.0.bn3_attention.alpha' in added


@pytest.mark.parametrize('depth', [18, 50])
def test_is_resnet_with_a_gate_before_the_addition(depth):
    """The block's result recomputed from its own convolutions and norms."""
    backbone = small(depth).eval()
    for ean in eans(backbone):
        for parameter in ean.parameters():
            nn.init.normal_(parameter, mean=0.5)
    for block in (backbone.layer1[0], backbone.layer2[0], backbone.layer2[1]):
        x = torch.randn(2, block.conv1.in_channels, 8, 8)
        out = block.norm1(block.conv1(x)).relu()
        if depth == 50:
            out = block.norm3.normalize(block.conv3(block.norm2(block.conv2(out)).relu()))
        else:
            out = block.norm2.normalize(block.conv2(out))
        shortcut = block.downsample(x) if block.downsample is not None else x
        torch.testing.assert_close(
            block(x),
            (block.get_submodule(f'bn{2 if depth == 18 else 3}_attention')(out) + shortcut).relu(),
            rtol=1e-5,
            atol=1e-6,
        )


@pytest.mark.parametrize('depth', [18, 50])
@pytest.mark.parametrize(
    'options',
    [
        dict(norm_eval=False),
        dict(deep_stem=True, avg_down=True),
        dict(style='caffe'),
        dict(strides=(1, 2, 1, 1), dilations=(1, 1, 2, 4)),
        dict(num_stages=3, strides=(1, 2, 2), dilations=(1, 1, 1), out_indices=(1, 2)),
        dict(norm_cfg=dict(type='GN', num_groups=4)),
        dict(with_cp=True),
        dict(zero_init_residual=False),
        dict(weight_norm='rms'),
        dict(plugins=[dict(cfg=dict(type='ContextBlock', ratio=1 / 4), position='after_conv2')]),
    ],
    ids=lambda options: next(iter(options)),
)
def test_options_train_a_step(depth, options):
    backbone = small(depth, **options)
    backbone.init_weights()
    backbone.train()
    assert step(backbone)


def test_dcn_trains_a_step():
    dcn = dict(type='DCNv2', deform_groups=1, fallback_on_stride=False)
    backbone = small(50, dcn=dcn, stage_with_dcn=(False, True, True, True)).train()
    assert any('conv2.conv_offset' in name for name, _ in backbone.named_parameters())
    assert step(backbone)


@pytest.mark.parametrize('depth', [18, 50])
@pytest.mark.parametrize('frozen_stages', [0, 1, 4])
def test_frozen_stages_do_not_move(depth, frozen_stages):
    backbone = small(depth, frozen_stages=frozen_stages, norm_eval=False).train()
    frozen = ('conv1.', 'bn1.', *(f'layer{i}.' for i in range(1, frozen_stages + 1)))
    for name, parameter in backbone.named_parameters():
        assert parameter.requires_grad == (not name.startswith(frozen))
    assert all(ean.weight.requires_grad == (frozen_stages < 1) for ean in eans(backbone.layer1))
    if frozen_stages < 4:
        moved = step(backbone)
        assert moved and not any(name.startswith(frozen) for name in moved)


def test_norm_eval_keeps_statistics():
    backbone = small(norm_eval=True).train()
    before = {name: buffer.clone() for name, buffer in backbone.named_buffers()}
    assert step(backbone)
    assert all(torch.equal(buffer, before[name]) for name, buffer in backbone.named_buffers())


@pytest.mark.parametrize('depth,norm', [(18, 'bn2'), (50, 'bn3')])
def test_zero_init_residual(depth, norm):
    backbone = small(depth)
    backbone.init_weights()
    assert all((getattr(block, norm).weight == 0).all() for block in backbone.layer2)
    backbone = small(depth, zero_init_residual=False)
    backbone.init_weights()
    assert all((getattr(block, norm).weight == 1).all() for block in backbone.layer2)


@pytest.mark.parametrize('depth', [18, 50])
def test_with_cp_gives_the_same_gradients(depth):
    plain, checkpointed = small(depth).train(), small(depth, with_cp=True).train()
    checkpointed.load_state_dict(plain.state_dict())
    x = torch.rand(2, 3, 64, 64)
    grads = []
    for backbone in (plain, checkpointed):
        sum(out.square().mean() for out in backbone(x)).backward()
        grads.append([parameter.grad for parameter in backbone.parameters()])
    for mine, theirs in zip(*grads):
        torch.testing.assert_close(mine, theirs)


@pytest.mark.parametrize('depth', [18, 50])
def test_compiles_and_deepcopies(depth):
    backbone = small(depth).eval()
    x = torch.rand(1, 3, 64, 64)
    compiled = torch.compile(copy.deepcopy(backbone), backend='aot_eager', fullgraph=True)
    with torch.no_grad():
        for mine, theirs in zip(compiled(x), backbone(x)):
            torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-5)


def test_ean_is_a_plugin_of_mmdetections_resnet():
    plugins = [dict(cfg=dict(type='EAN', groups=64), position='after_conv3')]
    resnet = MODELS.build(dict(type='mmdet.ResNet', depth=50, plugins=plugins))
    ours = build(50)
    ours.load_state_dict({key.replace('.ean.', '.bn3_attention.'): v for key, v in resnet.state_dict().items()})
    resnet.eval()
    x = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        for mine, theirs in zip(ours.eval()(x), resnet(x)):
            torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-5)


def test_ean_is_a_plugin_of_mmdetections_resnext():
    plugins = [dict(cfg=dict(type='EAN', groups=64), position='after_conv3')]
    resnext = MODELS.build(dict(type='mmdet.ResNeXt', depth=50, groups=32, base_width=4, plugins=plugins))
    assert len(eans(resnext)) == 16
    assert step(resnext)


@pytest.mark.parametrize('backbone,channels', [('EANResNet', 512), ('EANMobileNeXt', 1280)])
def test_classifies_in_mmpretrain(backbone, channels):
    options = dict(depth=18, out_indices=(3,)) if backbone == 'EANResNet' else dict(out_indices=(7,))
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        classifier = MODELS.build(
            dict(
                type='mmpretrain.ImageClassifier',
                backbone=dict(type=backbone, **options),
                neck=dict(type='GlobalAveragePooling'),
                head=dict(type='LinearClsHead', num_classes=10, in_channels=channels),
            )
        )
    samples = [DataSample().set_gt_label(label) for label in (3, 7)]
    losses = classifier(torch.rand(2, 3, 64, 64), samples, mode='loss')
    losses['loss'].backward()
    assert all(parameter.grad is not None for parameter in classifier.parameters())


def test_bad_options_are_named():
    with pytest.raises(ValueError, match=r'depth must be one of \[18, 34, 50, 101, 152\], got 20'):
        build(20)
    with pytest.raises(ValueError, match='in_channels=256 must be divisible by groups=60'):
        build(50, groups=60)
    with pytest.raises(ValueError, match="after_conv1 and after_conv2, not at 'after_conv3'"):
        build(18, plugins=[dict(cfg=dict(type='EAN'), position='after_conv3')])
