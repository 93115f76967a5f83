from types import SimpleNamespace

import torch
from mmengine.model import MMDistributedDataParallel
from mmengine.registry import HOOKS, MODELS

import ean_mmdet  # noqa: F401, registers the hook


def network():
    torch.manual_seed(0)
    return MODELS.build(dict(type='EANMobileNeXt', widen_factor=0.25, out_indices=(7,))).eval()


def test_same_results_in_the_other_layout():
    plain, converted = network(), network()
    HOOKS.build(dict(type='ChannelsLastHook')).before_run(SimpleNamespace(model=converted))
    weight = converted.stem.conv.weight
    assert weight.is_contiguous(memory_format=torch.channels_last) and not weight.is_contiguous()
    x = torch.randn(2, 3, 64, 64)
    seen = []
    converted.stem.register_forward_hook(lambda module, args, output: seen.append(output))
    with torch.no_grad():
        torch.testing.assert_close(converted(x)[0], plain(x)[0], rtol=1e-4, atol=1e-5)
    assert seen[0].is_contiguous(memory_format=torch.channels_last)
    assert converted.state_dict().keys() == plain.state_dict().keys()


def test_a_wrapped_model_is_converted_inside():
    wrapper = MMDistributedDataParallel.__new__(MMDistributedDataParallel)
    torch.nn.Module.__init__(wrapper)
    wrapper.module = network()
    HOOKS.build(dict(type='ChannelsLastHook')).before_run(SimpleNamespace(model=wrapper))
    assert wrapper.module.stem.conv.weight.is_contiguous(memory_format=torch.channels_last)
