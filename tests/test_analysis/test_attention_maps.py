from collections import OrderedDict

import cv2
import numpy as np
import pytest
import torch
from torch import nn

from ean_mmdet.analysis.attention_maps import (
    attention_map,
    attention_maps,
    eans,
    map_statistics,
    maps_replaced,
    write_overlays,
    write_picture,
)
from ean_mmdet.attention import EAN
from ean_mmdet.backbones import EANMobileNeXt
from ean_mmdet.errors import InputError


def randomized(module):
    for ean in module.modules():
        if isinstance(ean, EAN):
            for vector in (ean.weight, ean.bias, ean.alpha, ean.delta):
                vector.data.normal_(0.3, 1)
    return module.eval()


@pytest.mark.parametrize('norm', ['l2', 'rms', 'l1'])
def test_the_mask_is_what_ean_multiplies_by(norm):
    ean = randomized(EAN(12, groups=3, weight_norm=norm)).double()
    x = torch.randn(2, 12, 5, 4, dtype=torch.float64)
    torch.testing.assert_close(x * attention_map(ean, x), ean(x))


def test_statistics_and_replacing(tmp_path):
    model = randomized(EANMobileNeXt(groups=8, widen_factor=0.25, out_indices=(7,)))
    images = [torch.randn(2, 3, 64, 64) for _ in range(2)]
    statistics = map_statistics(model, lambda: (model(image) for image in images))
    assert [entry.name for entry in statistics] == list(eans(model)) and len(statistics) == 15
    first, ean = statistics[0], model.layer1[0].depthwise2.bn_attention
    torch.testing.assert_close(first.omega, ean.weight / (ean.weight.square().sum() + ean.eps).sqrt())
    inputs = [None]
    hook = ean.register_forward_pre_hook(lambda module, args: inputs.append(args[0]))
    with torch.no_grad():
        maps = [attention_map(ean, inputs[-1]) for image in images if model(image) is not None]
    hook.remove()
    both = torch.cat(maps)
    torch.testing.assert_close(first.mean, both.mean((0, 2, 3)), rtol=1e-4, atol=1e-5)
    assert first.deviation == pytest.approx(both.std((0, 2, 3), correction=0).mean().item(), rel=1e-3)
    before = model(images[0])[0]
    with maps_replaced(model, statistics, 'one mean'):
        replaced = model(images[0])[0]
    assert not torch.allclose(before, replaced)
    torch.testing.assert_close(model(images[0])[0], before)
    write_picture(tmp_path / 'attention_maps.png', statistics)
    assert (tmp_path / 'attention_maps.png').read_bytes()[:4] == b'\x89PNG'


def test_at_the_start_every_mask_is_a_half():
    model = EANMobileNeXt(groups=8, widen_factor=0.25, out_indices=(7,)).eval()
    for entry in map_statistics(model, lambda: [model(torch.randn(1, 3, 32, 32))]):
        assert entry.deviation == 0 and entry.between == 0 and (entry.mean == 0.5).all()


def test_without_eans():
    with pytest.raises(InputError, match='Sequential has no EAN'):
        eans(nn.Sequential(nn.Conv2d(3, 3, 1)))
    with pytest.raises(InputError, match=r"no EAN 'gate'; near are gates"):
        eans(nn.Sequential(OrderedDict(gates=EAN(8, groups=2))), ['gate'])


@pytest.mark.slow
def test_eans_without_images_are_refused(run_tool):
    result = run_tool('attention_maps.py', 'x.py', 'x.pth', '--eans', 'x', check=False)
    assert result.returncode == 2 and '--eans chooses what is drawn over the --images' in result.stderr


def test_masks_over_an_image(tmp_path):
    torch.manual_seed(0)
    model = nn.Sequential(EAN(8, groups=2), nn.MaxPool2d(2), EAN(8, groups=2), EAN(8, groups=2)).eval()
    for ean in (model[0], model[2], model[3]):
        ean.alpha.data.normal_()
    x = torch.randn(1, 8, 12, 16)
    maps = attention_maps(model, lambda: model(x))
    assert list(maps) == ['0', '3']  # the last of each size
    torch.testing.assert_close(maps['0'], (model[0](x) / x)[0].mean(0), rtol=1e-3, atol=1e-3)
    assert maps['3'].shape == (6, 8)
    assert list(attention_maps(model, lambda: model(x), ['2'])) == ['2']
    with pytest.raises(InputError, match="no EAN '9'; near are 0, 2, 3"):
        attention_maps(model, lambda: model(x), ['9'])
    write_overlays(tmp_path / 'x.png', np.full((48, 64, 3), 128, np.uint8), maps, (1, 1))
    assert cv2.imread(str(tmp_path / 'x.png')).shape[1] > 800
