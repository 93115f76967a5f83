"""The operators of ean_mmdet beside those of a compiled mmcv, on the CPU, forward and backward.

Needs a compiled mmcv, so run.sh runs it and the suite does not; tests/test_mmcv_ops has independent references.
Compared is every operator that mmcv has for CPUs and ean_mmdet supplies, through mmcv's own Python functions.
"""

import importlib
from collections.abc import Callable

import mmcv.ops
import pytest
import torch
from mmcv.ops.deform_conv import DeformConv2d
from mmcv.ops.modulated_deform_conv import ModulatedDeformConv2d

from ean_mmdet import mmcv_ops
from tests.test_mmcv_ops.conftest import WITH_OPERATORS

compiled = importlib.import_module('mmcv._ext')
if not compiled.__file__.endswith(('.so', '.pyd')):
    pytest.skip('no compiled mmcv here', allow_module_level=True)

FLOATS = [torch.float32, torch.float64]


def both(call: Callable, monkeypatch) -> tuple:
    """What ``call`` returns with the compiled operators and with ours."""
    results = []
    for operators in (compiled, mmcv_ops):
        for module in WITH_OPERATORS:
            monkeypatch.setattr(module, 'ext_module', operators)
        torch.manual_seed(0)
        results.append(call())
    return tuple(results)


def assert_same(call: Callable, monkeypatch, **tolerance) -> None:
    expected, actual = both(call, monkeypatch)
    torch.testing.assert_close(actual, expected, **tolerance)


def random_boxes(count: int, size: float = 60, dtype=torch.float32) -> torch.Tensor:
    corner = torch.rand(count, 2, dtype=dtype) * 100
    return torch.cat([corner, corner + torch.rand(count, 2, dtype=dtype) * size], dim=1)


@pytest.mark.parametrize('offset', [0, 1])
@pytest.mark.parametrize('count', [0, 1, 2, 97, 500])
@pytest.mark.parametrize('kwargs', [{}, dict(score_threshold=0.4), dict(max_num=3)])
def test_nms(count, offset, kwargs, monkeypatch):
    def call():
        return mmcv.ops.nms(random_boxes(count), torch.rand(count), 0.3, offset, **kwargs)

    assert_same(call, monkeypatch, rtol=0, atol=0)


def test_nms_at_the_threshold(monkeypatch):
    # IoU of exactly ½ and exactly 0.3 in float32, which isn't above it
    boxes = torch.tensor([[0, 0, 10, 10], [0, 0, 10, 5], [20, 0, 30, 10], [20, 0, 30, 3], [0, 0, 0, 0], [0, 0, 0, 0]])
    for threshold in (0.5, 0.3, 0.0):
        assert_same(
            lambda threshold=threshold: mmcv.ops.nms(boxes.float(), torch.linspace(1, 0.1, 6), threshold), monkeypatch
        )


@pytest.mark.parametrize('method', ['naive', 'linear', 'gaussian'])
@pytest.mark.parametrize('offset', [0, 1])
@pytest.mark.parametrize('count', [0, 1, 2, 97, 400])
def test_soft_nms(count, offset, method, monkeypatch):
    def call():
        scores = (torch.rand(count) * 20).round() / 20  # many are equal
        return mmcv.ops.soft_nms(random_boxes(count), scores, 0.3, 0.5, 0.05, method, offset)

    if count:
        assert_same(call, monkeypatch)
    else:
        assert both(call, monkeypatch)[1][0].shape == (0, 5)


@pytest.mark.parametrize('count', [0, 1, 97, 300])
def test_nms_match(count, monkeypatch):
    def call():
        return mmcv.ops.nms_match(torch.cat([random_boxes(count), torch.rand(count, 1)], dim=1), 0.3)

    assert_same(call, monkeypatch)


@pytest.mark.parametrize('kind', [{}, dict(type='soft_nms')])
@pytest.mark.parametrize('kwargs', [{}, dict(class_agnostic=True), dict(split_thr=50), dict(split_thr=50, max_num=20)])
def test_batched_nms(kind, kwargs, monkeypatch):
    if kind and 'max_num' in kwargs:
        pytest.skip('soft_nms has no max_num')

    def call():
        settings = dict(iou_threshold=0.4, **kind, **kwargs)
        return mmcv.ops.batched_nms(random_boxes(200), torch.rand(200), torch.randint(0, 5, (200,)), settings)

    assert_same(call, monkeypatch)


def rois(count: int, images: int, dtype: torch.dtype) -> torch.Tensor:
    image = torch.randint(0, images, (count, 1)).to(dtype)
    return torch.cat([image, random_boxes(count, 90, dtype) - 20], dim=1)  # also beyond the border


@pytest.mark.parametrize('dtype', FLOATS)
@pytest.mark.parametrize('aligned', [True, False])
@pytest.mark.parametrize('ratio', [0, 2])
@pytest.mark.parametrize('mode', ['avg', 'max'])
@pytest.mark.parametrize(('shape', 'count', 'output'), [((2, 3, 17, 29), 20, (7, 5)), ((1, 1, 1, 3), 5, (1, 1))])
def test_roi_align(shape, count, output, mode, ratio, aligned, dtype, monkeypatch):
    def call():
        x = torch.randn(shape, dtype=dtype, requires_grad=True)
        boxes = rois(count, shape[0], dtype)
        pooled = mmcv.ops.roi_align(x, boxes, output, 0.25, ratio, mode, aligned)
        pooled.backward(torch.randn_like(pooled))
        return pooled.detach(), x.grad

    assert_same(call, monkeypatch)


def test_roi_align_of_no_rois(monkeypatch):
    def call():
        x = torch.randn(1, 2, 5, 5, requires_grad=True)
        pooled = mmcv.ops.roi_align(x, torch.zeros(0, 5), 7)
        pooled.sum().backward()
        return pooled.detach(), x.grad

    assert_same(call, monkeypatch)


CONVOLUTIONS = [
    dict(in_channels=4, out_channels=6, kernel_size=3, padding=1),
    dict(in_channels=4, out_channels=6, kernel_size=(3, 2), stride=(2, 1), padding=(0, 2), dilation=(2, 1), groups=2),
    dict(in_channels=4, out_channels=2, kernel_size=1, deform_groups=2),
]


@pytest.mark.parametrize('dtype', FLOATS)
@pytest.mark.parametrize('config', CONVOLUTIONS)
@pytest.mark.parametrize('modulated', [False, True])
@pytest.mark.parametrize('scale', [0, 2])
def test_deform_conv(scale, modulated, config, dtype, monkeypatch):
    def call():
        layer = (ModulatedDeformConv2d if modulated else DeformConv2d)(**config).to(dtype)
        x = torch.randn(2, 4, 11, 9, dtype=dtype, requires_grad=True)
        size = torch.nn.Conv2d(**{k: v for k, v in config.items() if k != 'deform_groups'})(x.float()).shape[2:]
        taps = config.get('deform_groups', 1) * layer.kernel_size[0] * layer.kernel_size[1]
        inputs = [x, (torch.randn(2, 2 * taps, *size, dtype=dtype) * scale).requires_grad_()]  # also far outside
        if modulated:
            inputs.append(torch.rand(2, taps, *size, dtype=dtype, requires_grad=True))
        y = layer(*inputs)
        y.backward(torch.randn_like(y))
        return y.detach(), [tensor.grad for tensor in (*inputs, *layer.parameters())]

    assert_same(call, monkeypatch, rtol=1e-4 if dtype == torch.float32 else 1e-9, atol=1e-4)


def test_modulated_deform_conv_with_offsets_of_another_size(monkeypatch):
    def call():
        inputs = [torch.randn(shape, requires_grad=True) for shape in ((2, 3, 4, 4), (2, 18, 8, 8), (2, 9, 8, 8))]
        y = ModulatedDeformConv2d(3, 3, 3, padding=1)(*inputs)
        y.backward(torch.randn_like(y))
        return y.detach(), [tensor.grad for tensor in inputs]

    assert_same(call, monkeypatch, rtol=1e-4, atol=1e-4)


def test_deform_conv_with_offsets_that_are_no_numbers(monkeypatch):
    def call():
        offset = torch.randn(1, 18, 6, 6)
        offset[offset > 1] = torch.nan
        return DeformConv2d(2, 3, 3, padding=1)(torch.randn(1, 2, 6, 6), offset).detach()

    assert_same(call, monkeypatch, rtol=1e-4, atol=1e-4)


def test_deform_conv_with_frozen_input(monkeypatch):
    def call():
        layer = DeformConv2d(2, 3, 3, padding=1)
        y = layer(torch.randn(1, 2, 6, 6), torch.randn(1, 18, 6, 6))
        y.backward(torch.randn_like(y))
        return y.detach(), layer.weight.grad

    assert_same(call, monkeypatch, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize('dtype', FLOATS)
@pytest.mark.parametrize('offset', [0, 1])
@pytest.mark.parametrize('mode', ['iou', 'iof'])
def test_bbox_overlaps(mode, offset, dtype, monkeypatch):
    for shape in ((7, 5), (0, 5), (7, 0)):
        assert_same(
            lambda shape=shape: mmcv.ops.bbox_overlaps(
                random_boxes(shape[0], dtype=dtype), random_boxes(shape[1], dtype=dtype), mode, offset=offset
            ),
            monkeypatch,
        )
    assert_same(
        lambda: mmcv.ops.bbox_overlaps(random_boxes(9), random_boxes(9), mode, aligned=True, offset=offset), monkeypatch
    )


@pytest.mark.parametrize('dtype', FLOATS)
@pytest.mark.parametrize('kind', ['collect', 'distribute'])
@pytest.mark.parametrize('mask', [(3, 5), (9, 7)])
def test_psa_mask(mask, kind, dtype, monkeypatch):
    def call():
        x = torch.randn(2, mask[0] * mask[1], 4, 6, dtype=dtype, requires_grad=True)
        y = mmcv.ops.PSAMask(kind, mask)(x)
        y.backward(torch.randn_like(y))
        return y.detach(), x.grad

    assert_same(call, monkeypatch, rtol=0, atol=0)


def rotated_boxes(count: int) -> torch.Tensor:
    return torch.cat([torch.rand(count, 2) * 20, torch.rand(count, 2) * 20 + 1, torch.randn(count, 1) * 2], dim=1)


@pytest.mark.parametrize('mode', ['iou', 'iof'])
@pytest.mark.parametrize('clockwise', [True, False])
def test_box_iou_rotated(clockwise, mode, monkeypatch):
    def call():
        first, second = rotated_boxes(30), rotated_boxes(20)
        second[:4] = first[:4]  # themselves
        second[4, :4], second[4, 4] = first[4, [0, 1, 3, 2]], first[4, 4] + torch.pi / 2  # the same, turned
        return (
            mmcv.ops.box_iou_rotated(first, second, mode, clockwise=clockwise),
            mmcv.ops.box_iou_rotated(first[:20], second, mode, aligned=True, clockwise=clockwise),
        )

    assert_same(call, monkeypatch, rtol=1e-4, atol=1e-4)


def test_nms_rotated(monkeypatch):
    assert_same(lambda: mmcv.ops.nms_rotated(rotated_boxes(100), torch.rand(100), 0.3), monkeypatch)
