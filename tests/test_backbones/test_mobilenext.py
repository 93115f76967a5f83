import copy

import pytest
import torch
from mmengine.registry import MODELS
from torch import nn

from ean_mmdet import attach, positions
from ean_mmdet.attention import EAN
from ean_mmdet.backbones.mobilenext import SandglassBlock

HEAD = 1280 * 1000 + 1000  # ImageNet's classifier


def build(name='EANMobileNeXt', **kwargs):
    return MODELS.build(dict(type=name, **kwargs))


def small(name='EANMobileNeXt', **kwargs):
    return build(name, widen_factor=0.25, **kwargs)


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def step(backbone: nn.Module, size: int = 64) -> dict[str, torch.Tensor]:
    """One optimizer step; the parameters that moved, by name."""
    before = {name: parameter.detach().clone() for name, parameter in backbone.named_parameters()}
    optimizer = torch.optim.SGD([p for p in backbone.parameters() if p.requires_grad], lr=0.1)
    outs = backbone(torch.randn(2, 3, size, size))
    sum(out.square().mean() for out in outs).backward()
    optimizer.step()
    return {name for name, parameter in backbone.named_parameters() if not torch.equal(parameter, before[name])}


def test_parameters_are_the_papers():
    assert count(build('MobileNeXt')) + HEAD == 3_535_416  # 3.54 M
    assert count(build('EANMobileNeXt')) + HEAD == 3_539_056  # 3.54 M


def test_attention_sits_in_the_fifteen_full_blocks():
    backbone = build()
    blocks = [module for module in backbone.modules() if isinstance(module, SandglassBlock)]
    assert len(blocks) == 20
    for block in blocks:
        assert any(isinstance(module, EAN) for module in block.modules()) == (block.depthwise1 is not None)
    assert len(positions(backbone)) == 15


def test_attention_at_the_first_norm_and_in_all_blocks():
    first = build('MobileNeXt', attention=dict(type='CA', ratio=16), attention_at='first')
    assert len(positions(first)) == 15 and positions(first)[0].norm == 'layer1.0.depthwise1.bn'
    assert round((count(first) + HEAD) / 1e6, 4) == 4.3864  # the paper's Table 3, 4.39 M
    # between norm and activation
    seen = {}
    module = first.layer2[0].depthwise1
    module.bn_attention.register_forward_hook(lambda _, args, output: seen.update(x=args[0], y=output))
    out = first.eval().layer2[0].depthwise1(torch.randn(1, 96, 8, 8))
    assert (seen['x'] < 0).any()
    torch.testing.assert_close(out, seen['y'].clamp(0, 6))
    everywhere = build('MobileNeXt', attention=dict(type='SE', ratio=16), attention_blocks='all')
    assert len(positions(everywhere)) == 18
    with pytest.raises(ValueError, match="attention_at must be 'last' or 'first', and attention_blocks 'full' or"):
        build(attention_at='first', attention_blocks='all')


def test_the_same_positions_by_attach():
    plain, ours = build('MobileNeXt'), build()
    report = attach(plain, 'EAN')
    assert [p.norm for p in report.positions] == [p.norm for p in positions(ours)]
    assert report.change < 1e-5 and list(plain.state_dict()) == list(ours.state_dict())


def test_outputs():
    backbone = build('MobileNeXt', out_indices=range(8)).eval()
    with torch.no_grad():
        shapes = [tuple(out.shape[1:]) for out in backbone(torch.rand(1, 3, 64, 96))]
    assert shapes == [
        (96, 16, 24),
        (144, 16, 24),
        (192, 8, 12),
        (288, 4, 6),
        (384, 4, 6),
        (576, 2, 3),
        (960, 2, 3),
        (1280, 2, 3),
    ]


def test_ssdlite_taps():
    backbone = build(out_indices=(7,), expansion_indices=(5,)).eval()
    x = torch.rand(1, 3, 320, 320)
    with torch.no_grad():
        expansion, last = backbone(x)
        backbone.expansion_indices = ()
        (same,) = backbone(x)
    assert expansion.shape == (1, 576, 20, 20)
    assert last.shape == (1, 1280, 10, 10)
    assert expansion.min() >= 0 and expansion.max() <= 6  # behind ReLU6
    torch.testing.assert_close(last, same)


@pytest.mark.parametrize('widen_factor', [0.25, 0.5, 1.4])
def test_widen_factor(widen_factor):
    (out,) = build(widen_factor=widen_factor, out_indices=(7,)).eval()(torch.rand(1, 3, 32, 32))
    assert out.shape == (1, max(1280, int(1280 * widen_factor)), 1, 1)


@pytest.mark.parametrize('frozen_stages', [-1, 0, 3, 8])
def test_frozen_stages_do_not_move(frozen_stages):
    backbone = small(frozen_stages=frozen_stages)
    frozen = [] if frozen_stages < 0 else ['stem.', *(f'layer{i}.' for i in range(1, frozen_stages + 1))]
    # frozen from the start, before train() is first called: an optimizer may be built by then
    for name, parameter in backbone.named_parameters():
        assert parameter.requires_grad == (not name.startswith(tuple(frozen)))
    backbone.train()
    if frozen_stages == 8:
        assert not any(parameter.requires_grad for parameter in backbone.parameters())
        assert not any(module.training for module in backbone.modules() if isinstance(module, nn.BatchNorm2d))
        return
    moved = step(backbone)
    assert moved and not any(name.startswith(tuple(frozen)) for name in moved if frozen)
    for name, module in backbone.named_modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.training == (not name.startswith(tuple(frozen)))


def test_norm_eval_keeps_statistics():
    backbone = small(norm_eval=True).train()
    before = {name: buffer.clone() for name, buffer in backbone.named_buffers()}
    assert step(backbone)
    assert all(torch.equal(buffer, before[name]) for name, buffer in backbone.named_buffers())


def test_with_cp_gives_the_same_gradients():
    plain = small().train()
    checkpointed = small(with_cp=True).train()
    checkpointed.load_state_dict(plain.state_dict())
    x = torch.rand(2, 3, 64, 64)
    grads = []
    for backbone in (plain, checkpointed):
        sum(out.square().mean() for out in backbone(x)).backward()
        grads.append([parameter.grad for parameter in backbone.parameters()])
    for mine, theirs in zip(*grads):
        torch.testing.assert_close(mine, theirs)


def test_norm_and_activation_of_ones_own():
    backbone = small(norm_cfg=dict(type='GN', num_groups=2), act_cfg=dict(type='SiLU'))
    kinds = {type(module) for module in backbone.modules()}
    assert nn.GroupNorm in kinds and nn.SiLU in kinds
    assert not kinds & {nn.BatchNorm2d, nn.ReLU6}
    assert step(backbone)


def test_init_cfg_is_followed():
    backbone = small(init_cfg=dict(type='Constant', val=0.5, layer='Conv2d'))
    backbone.init_weights()
    # the stem is mmcv's ConvModule, which initialises itself where it is a direct child, as in MobileNetV2
    convs = [m for name, m in backbone.named_modules() if isinstance(m, nn.Conv2d) and not name.startswith('stem')]
    assert len(convs) == 73 and all((conv.weight == 0.5).all() for conv in convs)


def test_any_plugin_layer_takes_eans_place():
    backbone = small('MobileNeXt', attention=dict(type='ContextBlock', ratio=1 / 8))
    assert sum(type(module).__name__ == 'ContextBlock' for module in backbone.modules()) == 15
    assert step(backbone)


def test_deepcopy_and_channels_last():
    backbone = small().eval()
    x = torch.rand(1, 3, 64, 64)
    twin = copy.deepcopy(backbone).to(memory_format=torch.channels_last)
    outs = twin(x.to(memory_format=torch.channels_last))
    assert outs[0].is_contiguous(memory_format=torch.channels_last)
    for mine, theirs in zip(outs, backbone(x)):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-5)


def test_autocast():
    with torch.autocast('cpu', torch.bfloat16):
        outs = small().eval()(torch.rand(1, 3, 64, 64))
    assert all(out.isfinite().all() for out in outs)


@pytest.mark.parametrize(
    'options,message',
    [
        (dict(out_indices=(8,)), r'out_indices must be among 0 to 7, got \(8,\)'),
        (dict(expansion_indices=(4,)), r'stages with stride 2, \[0, 2, 3, 5\], got \(4,\)'),
        (dict(frozen_stages=9), r'frozen_stages must be -1 to 8, got 9'),
        (dict(groups=7), r'in_channels=\d+ must be divisible by groups=7'),
    ],
)
def test_bad_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        build(**options)
