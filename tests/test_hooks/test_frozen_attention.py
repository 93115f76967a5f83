"""Attention that can never learn is named; what learns, or was trained, isn't."""

import pytest
import torch
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS
from mmengine.runner import Runner
from torch import nn

from ean_mmdet.hooks.frozen_attention import frozen_attention

SE = [dict(cfg=dict(type='SE'), position='after_conv3')]


@pytest.fixture(scope='module')
def resnet(tmp_path_factory) -> str:
    network = MODELS.build(dict(type='mmdet.ResNet', depth=50, base_channels=8, stem_channels=8))
    path = tmp_path_factory.mktemp('plain') / 'resnet.pth'
    torch.save(network.state_dict(), path)
    return str(path)


def build(checkpoint=None, keep_function=True, **config) -> nn.Module:
    init = checkpoint and dict(type='Pretrained', checkpoint=checkpoint, keep_function=keep_function)
    network = MODELS.build(dict(depth=50, base_channels=8, stem_channels=8, init_cfg=init, **config))
    network.init_weights()
    return network


def line(network: nn.Module, **paramwise) -> str | None:
    wrapper = dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=0.1), paramwise_cfg=paramwise)
    return frozen_attention(network, build_optim_wrapper(network, wrapper).param_groups)


def test_a_frozen_stage():
    network = build(type='EANResNet', groups=8, frozen_stages=1)
    assert line(network) == (
        '3 of 16 attention modules can never learn: layer1.0.bn3_attention, layer1.1.bn3_attention, '
        'layer1.2.bn3_attention stay at a constant map of 0.5, as they need no gradient. Train them (a smaller '
        'frozen_stages, or requires_grad_(True)), leave them out, '
        'or load a checkpoint in which they were trained'
    )
    assert line(build(type='EANResNet', groups=8, frozen_stages=0)) is None


def test_a_learning_rate_of_0():
    network = build(type='EANResNet', groups=8)
    text = line(network, custom_keys=dict(bn3_attention=dict(lr_mult=0)))
    assert text.startswith('16 of 16 ') and 'layer1.2.bn3_attention and 13 more' in text and 'no lr_mult of 0' in text
    assert line(network, custom_keys=dict(bn3_attention=dict(lr_mult=0.1))) is None


def test_no_gradient_asked_for():
    network = build(type='EANResNet', groups=8)
    network.layer3[1].bn3_attention.requires_grad_(False)
    assert line(network).startswith('1 of 16 attention modules can never learn: layer3.1.bn3_attention stay')


def test_trained_attention_may_be_frozen(tmp_path):
    network = build(type='EANResNet', groups=8)
    for module in network.modules():
        if hasattr(module, 'gate_layers'):
            nn.init.normal_(module.alpha)
    torch.save(network.state_dict(), tmp_path / 'trained.pth')
    assert line(build(str(tmp_path / 'trained.pth'), type='EANResNet', groups=8, frozen_stages=4)) is None


def test_random_attention_in_a_pretrained_network(resnet):
    text = line(build(resnet, keep_function=False, type='mmdet.ResNet', plugins=SE, frozen_stages=1))
    assert text.startswith('3 of 16 ') and 'random weights in a network that is otherwise pretrained' in text
    assert 'constant map of 0.5' in line(build(resnet, type='mmdet.ResNet', plugins=SE, frozen_stages=1))
    # from scratch, what is frozen is the user's business
    assert line(build(type='mmdet.ResNet', plugins=SE, frozen_stages=1)) is None


def test_it_is_said_before_training(tmp_path, caplog):
    from torch.utils.data import DataLoader

    from tests.test_hooks.test_safe_checkpoint_hook import Regressor, logged

    model = Regressor()
    model.gate = MODELS.build(dict(type='EAN', in_channels=4, groups=2)).requires_grad_(False)
    runner = Runner(
        model=model,
        work_dir=str(tmp_path),
        train_dataloader=DataLoader([dict(x=torch.ones(3))]),
        train_cfg=dict(by_epoch=False, max_iters=1),
        optim_wrapper=dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=0.1)),
        experiment_name=tmp_path.name,
    )
    assert '1 of 1 attention modules can never learn: gate stay' in logged(runner, caplog)
