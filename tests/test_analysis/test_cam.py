"""Activation maps against what they are by definition, and the tool on a real detector."""

import contextlib

import cv2
import numpy as np
import pytest
import torch
from mmcv.ops import RoIAlign
from mmengine.config import Config
from mmengine.registry import MODELS
from mmengine.structures import BaseDataElement

from ean_mmdet.analysis.cam import activation, choose, default_layers, find_layers
from ean_mmdet.datasets.pipeline import preprocess
from ean_mmdet.deploy.roi_align import roi_align_levels
from ean_mmdet.engine import build_model
from ean_mmdet.errors import InputError
from tests.test_deploy.models import calibrated, classifier, faster_rcnn, randomized, retinanet, ssdlite, yolox
from tests.test_tools.tiny import write_config


def test_grad_cam_of_a_linear_classifier_is_the_cam_of_its_weights():
    model = randomized(MODELS.build(classifier('EAN')))
    x = torch.randn(1, 3, 96, 128)
    data = dict(inputs=x, data_samples=[BaseDataElement(metainfo=dict(img_shape=(96, 128)))])
    entry = activation(model, data, list('abcdefg'), 'gradcam', target='c')
    # behind a global average, the gradient of a class's logit is its weights; softmax adds those of the others
    with torch.no_grad():
        (maps,) = model.backbone(x)
        scores = model(x, mode='tensor').softmax(1)[0]
    weights = model.head.fc.weight
    gradient = scores[2] * (weights[2] - scores @ weights)
    expected = torch.einsum('c,chw->hw', gradient, maps[0]).clamp_min(0).detach().numpy()
    expected = cv2.resize((expected - expected.min()) / (1e-7 + expected.max() - expected.min()), (128, 96))
    expected = (expected - expected.min()) / (1e-7 + expected.max() - expected.min())
    np.testing.assert_allclose(entry.heat, expected, atol=2e-3)
    assert entry.label == f'c {scores[2]:.2f}' and entry.boxes.shape == (0, 4)


@pytest.mark.parametrize('detector', [ssdlite, retinanet, yolox, faster_rcnn], ids=lambda value: value.__name__)
def test_a_detections_map(detector, sample_data, tmp_path):
    config, _ = detector(write_config(tmp_path, sample_data), 'EAN')
    torch.manual_seed(0)
    paths = sorted((sample_data / 'JPEGImages').iterdir())
    model = calibrated(build_model(config), paths[:8])
    data = preprocess(config, model.data_preprocessor, paths[0])
    names = ['circle', 'square', 'triangle', 'star', 'cross']
    assert find_layers(model, default_layers(model))
    first, second = (activation(model, data, names, target=target) for target in ('0', '1'))
    height, width = data['data_samples'][0].img_shape
    for entry in (first, second):
        assert entry.heat.shape == (height, width) and entry.heat.max() == pytest.approx(1, abs=1e-3)
        assert entry.boxes.shape == (1, 4) and entry.label.split()[0] in names
    assert np.abs(first.heat - second.heat).max() > 0.01 or np.allclose(first.boxes, second.boxes, atol=0.05)
    assert activation(model, data, names, 'eigencam').heat.shape == (height, width)


def test_roi_align_is_mmcvs_with_its_gradient():
    maps = [torch.randn(2, 3, 32 >> i, 40 >> i, requires_grad=True) for i in range(3)]
    rois = torch.tensor([[0, 1, 2, 30, 28], [1, 10, 5, 75, 70], [1, 0, 0, 140, 120], [0, 5, 5, 9, 8.0]])
    ours = roi_align_levels(maps, rois, [4.0, 8.0, 16.0], 28.0, 7, 0)
    # areas 29·26 and 4·3: level 0; 65 · 65: level 1; 140 · 120: level 2
    layers = [RoIAlign(7, 1 / stride, 0, aligned=True) for stride in (4, 8, 16)]
    theirs = torch.cat([layers[0](maps[0], rois[:1]), layers[1](maps[1], rois[1:2]), layers[2](maps[2], rois[2:3]),
                        layers[0](maps[0], rois[3:])])  # fmt: skip
    torch.testing.assert_close(ours, theirs)
    grad = torch.randn_like(ours)
    for actual, expected in zip(torch.autograd.grad(ours, maps, grad), torch.autograd.grad(theirs, maps, grad)):
        torch.testing.assert_close(actual, expected)


def test_targets_and_names_that_are_not_there(tmp_path, sample_data):
    scores, labels = torch.tensor([0.2, 0.9, 0.5, 0.0]), torch.tensor([0, 1, 0, -1])
    assert choose(scores, labels, 'ab', 'best', 2) == [1, 2]
    assert choose(scores, labels, 'ab', '2', 1) == [0]
    assert choose(scores, labels, 'ab', 'a', 5) == [2, 0]
    assert choose(scores, None, 'abcd', 'c', 1) == [2]
    with pytest.raises(InputError, match='--target 3: there are 3 detections, 0 to 2'):
        choose(scores, labels, 'ab', '3', 1)
    with pytest.raises(
        InputError, match="--target 'x' is neither best, nor a number, nor a class; the classes are a, b"
    ):
        choose(scores, labels, 'ab', 'x', 1)
    with pytest.raises(InputError, match='no c was detected'):
        choose(scores, labels, 'abc', 'c', 1)
    with pytest.raises(InputError, match='nothing was detected'):
        choose(scores, labels - 2, 'ab', 'best', 1)
    config = Config.fromfile(write_config(tmp_path, sample_data))
    with pytest.raises(InputError, match=r"no layer 'backbone\.layr8'; near are .*backbone\.layer8"):
        find_layers(build_model(config), ['backbone.layr8'])


@pytest.mark.slow
def test_the_tool_puts_networks_side_by_side(tmp_path, sample_data, run_tool):
    tiny = write_config(tmp_path, sample_data)
    run_tool('train.py', tiny, '--work-dir', tmp_path / 'run')
    image = sample_data / 'JPEGImages/000001.jpg'
    checkpoints = [tmp_path / 'run/iter_3.pth', tmp_path / 'run/iter_6.pth']
    run_tool('cam.py', image, tiny, *checkpoints, '--out-dir', tmp_path / 'cam', '--method', 'layercam')
    picture = cv2.imread(str(tmp_path / 'cam/000001.png'))
    assert picture.shape[1] > 2.5 * picture.shape[0]  # the image and two maps
    result = run_tool('cam.py', image, checkpoints[0], tiny, check=False)
    assert result.returncode and 'the config, a .py file, comes before its checkpoint' in result.stderr
    result = run_tool('cam.py', image.parent, tiny, checkpoints[0], '--target', 'circel', check=False)
    assert result.returncode == 2 and 'nor a class; did you mean circle?' in result.stderr
    assert 'Explaining' not in result.stdout  # no image was looked at
    (tmp_path / 'two').mkdir()
    for name in ('a.jpg', 'b.jpg'):
        (tmp_path / 'two' / name).write_bytes(image.read_bytes())
    result = run_tool('cam.py', tmp_path / 'two', tiny, checkpoints[0], '--target', '999', check=False)
    assert result.returncode == 2 and 'there is nothing to show in any of the 2 images, see above' in result.stderr
    assert result.stdout.count('--target 999: there are 20 detections, 0 to 19') == 2


def test_nothing_stays_on_the_model():
    model = randomized(MODELS.build(classifier('EAN')))
    data = dict(inputs=torch.randn(1, 3, 64, 64), data_samples=[BaseDataElement(metainfo=dict(img_shape=(64, 64)))])
    before = [len(module._forward_hooks) for module in model.modules()]  # WithAttention has some
    for target in ('a', 'no such class'):
        with contextlib.suppress(InputError):
            activation(model, data, list('abcdefg'), target=target)
        assert [len(module._forward_hooks) for module in model.modules()] == before
