"""The numbers: anchors against MMDetection's own IoUs, and long-tailed, tiny and huge data."""

import numpy as np
import pytest
import torch
from mmdet.registry import TASK_UTILS
from mmdet.structures.bbox import bbox_overlaps
from mmengine.config import Config

from ean_mmdet.own_data.anchors import choose_anchors, recall
from ean_mmdet.own_data.choices import DETECTORS, choose, small_side
from ean_mmdet.own_data.contents import Contents
from tests.conftest import ROOT

RPN = dict(type='AnchorGenerator', scales=[8], ratios=[0.5, 1.0, 2.0], strides=[4, 8, 16, 32, 64])
RETINA = dict(
    type='AnchorGenerator', octave_base_scale=4, scales_per_octave=3, ratios=[0.5, 1.0, 2.0],
    strides=[8, 16, 32, 64, 128],
)  # fmt: skip
SSD = dict(
    type='SSDAnchorGenerator', scale_major=False, strides=[16, 32, 64, 107, 160, 320], ratios=[[2, 3]] * 6,
    min_sizes=[48, 100, 150, 202, 253, 304], max_sizes=[100, 150, 202, 253, 304, 320],
)  # fmt: skip


def contents(sizes, boxes, labels, owners) -> Contents:
    return Contents(None, *(np.array(part) for part in (sizes, np.array(boxes, dtype=float), labels, owners)))


def data(images=100, size=(640, 480), box=60.0, classes=3, per_image=4, spread=0.3) -> Contents:
    """Boxes around a size, of classes in turn."""
    generator = np.random.default_rng(0)
    number = images * per_image
    sides = box * np.exp(generator.normal(0, spread, (number, 2)))
    return contents([size] * images, sides, np.arange(number) % classes, np.repeat(np.arange(images), per_image))


@pytest.fixture(scope='module')
def bases() -> dict[str, Config]:
    names = {name: DETECTORS[name].base.format(data='coco') for name in DETECTORS}
    own = {name: Config.fromfile(ROOT / 'configs' / names[name]) for name in ('ssdlite', 'faster_rcnn')}
    return {**own, 'retinanet': Config(dict(model=dict(bbox_head=dict(anchor_generator=RETINA)))), 'yolox': Config()}


@pytest.mark.parametrize('settings', [RPN, RETINA, SSD, dict(RETINA, ratios=[5.0], scales_per_octave=1)])
def test_recall_is_that_of_mmdetections_anchors(settings):
    generator = np.random.default_rng(1)
    boxes, labels, size = generator.uniform(8, 200, (60, 2)), generator.integers(0, 3, 60), (640, 480)
    centres = generator.uniform(0.5 * boxes, np.array(size) - 0.5 * boxes)
    made = TASK_UTILS.build(dict(settings))
    maps = [(-(-size[1] // stride[1]), -(-size[0] // stride[0])) for stride in made.strides]
    anchors = torch.cat(made.grid_priors(maps, device='cpu'))
    corners = torch.from_numpy(np.concatenate([centres - boxes / 2, centres + boxes / 2], 1)).float()
    best = bbox_overlaps(corners, anchors).max(1).values.numpy()
    expected = np.mean([(best[labels == label] >= 0.5).mean() for label in range(3)])
    assert 0.1 < expected < 1
    assert recall(settings, boxes, labels, centres, size) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize('settings', [RPN, RETINA, SSD])
def test_anchors_of_small_long_boxes(settings):
    generator = np.random.default_rng(0)
    boxes = np.array([14.0, 42.0]) * np.exp(generator.normal(0, 0.1, (200, 2)))
    found = choose_anchors(settings, boxes, np.zeros(200, dtype=int), (320, 320))
    assert found.settings and found.after > found.before + 0.1
    assert choose_anchors(settings, boxes, np.zeros(200, dtype=int), (320, 320)) == found
    if settings is RPN:
        assert found.after > 0.9 and max(found.settings['ratios']) > 2.5


def test_anchors_that_fit_stay(bases):
    for detector in ('faster_rcnn', 'retinanet'):
        choices = choose(detector, bases[detector], data(), ('a', 'b', 'c'), True)
        assert choices.anchors.settings == {} and choices.input_size == (640, 480)


def test_equal_boxes_have_anchors_too():
    boxes = np.full((50, 2), 10.0)
    assert choose_anchors(RPN, boxes, np.zeros(50, dtype=int), (640, 480)).after > 0.9


def test_small_boxes_are_those_of_the_class_with_small_ones():
    mixed = contents([(640, 480)], [(100, 100)] * 98 + [(20, 20)] * 2, [0] * 98 + [1] * 2, [0] * 100)
    assert small_side(mixed) == 20


@pytest.mark.parametrize(('detector', 'crop'), [('ssdlite', 512), ('faster_rcnn', 800), ('retinanet', 800)])
def test_boxes_of_10_pixels_on_4k_images_are_trained_on_crops(detector, crop, bases):
    aerial = data(images=50, size=(3840, 2160), box=10.0, per_image=120, spread=0.1)
    choices = choose(detector, bases[detector], aerial, ('a', 'b', 'c'), False)
    assert choices.crop and choices.input_size == (crop, crop) and choices.factor == 1
    assert 'trained on crops' in choices.reasons['input'] and 'times the usual number' in choices.reasons['schedule']
    assert choices.most == (None if detector == 'ssdlite' else 200)
    said = [line for line in choices.warnings if 'the finest step of' in line]
    if detector == 'faster_rcnn':  # its finest step is 4 pixels
        assert choices.anchors.after > 0.9 and choices.anchors.before < 0.1 and not said
    else:
        assert choices.anchors.after > choices.anchors.before + 0.4
        assert said and '--detector faster_rcnn has one of 4' in said[0]


def test_yolox_says_that_it_cannot(bases):
    aerial = data(images=50, size=(3840, 2160), box=10.0)
    choices = choose('yolox', bases['yolox'], aerial, ('a', 'b', 'c'), False)
    assert choices.input_size == (1280, 1280)
    assert any('faster_rcnn and retinanet are trained on crops here' in line for line in choices.warnings)


def test_a_thousand_classes(bases):
    classes = tuple(f'class {number}' for number in range(1000))
    many = data(images=500, classes=1000, per_image=10)
    choices = choose('ssdlite', bases['ssdlite'], many, classes, False)
    assert choices.most == 300 and any('--detector faster_rcnn' in line for line in choices.warnings)
    assert any('1000 classes have fewer than 10 boxes' in line for line in choices.warnings)
    assert not any('--detector' in w for w in choose('faster_rcnn', bases['faster_rcnn'], many, classes, True).warnings)


def test_a_long_tail_is_oversampled(bases):
    labels = [0] * 396 + [1] * 3 + [2]
    tail = contents([(640, 480)] * 100, np.full((400, 2), 60.0), labels, np.arange(400) // 4)
    choices = choose('ssdlite', bases['ssdlite'], tail, ('a', 'b', 'c', 'd'), False)
    assert choices.oversample == 0.01 and 'in 99 images and the rarest in 1' in choices.reasons['rare classes']
    assert any('b (3), c (1)' in line for line in choices.warnings)
    assert any('1 of the 4 classes have no box to learn from: d' in line for line in choices.warnings)
    assert choose('ssdlite', bases['ssdlite'], data(), ('a', 'b', 'c'), False).oversample is None


def test_schedule_and_rate(bases):
    few, many = (choose('ssdlite', bases['ssdlite'], data(images), ('a', 'b', 'c'), False) for images in (20, 5000))
    assert few.iterations == 500 and many.iterations == 15000  # 24 passes
    started = choose('faster_rcnn', bases['faster_rcnn'], data(300), ('a', 'b', 'c'), True)
    assert (started.iterations, started.rate, started.batch_size) == (1800, 0.0025, 4)
    given = choose('faster_rcnn', bases['faster_rcnn'], data(300), ('a', 'b', 'c'), True, 8, None, 50)
    assert (given.iterations, given.rate, given.batch_size) == (50, 0.005, 8)


@pytest.mark.parametrize(('iterations', 'light'), [(113, True), (380, False)])  # of 8 of 300 images: 3 and 10 passes
def test_a_short_schedule_has_light_augmentation(iterations, light, bases):
    choices = choose('ssdlite', bases['ssdlite'], data(300), ('a', 'b', 'c'), False, iterations=iterations)
    assert choices.light is light is ('augmentation' in choices.reasons)
    other = choose('yolox', bases['yolox'], data(300), ('a', 'b', 'c'), False, iterations=iterations)
    assert not other.light


def test_images_smaller_than_the_usual_input(bases):
    small = choose('ssdlite', bases['ssdlite'], data(size=(96, 64), box=20.0), ('a', 'b', 'c'), False)
    assert small.input_size == (128, 128)
    assert choose('yolox', bases['yolox'], data(size=(320, 240)), ('a', 'b', 'c'), False).input_size == (320, 320)
