"""Average precision against pycocotools, and kinds of errors against examples made by hand."""

import contextlib
import inspect
import io
from pathlib import Path

import numpy as np
import pytest
from mmdet.evaluation.metrics import CocoMetric
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from ean_mmdet.evaluation import matching
from ean_mmdet.evaluation.errors import error_kinds
from ean_mmdet.evaluation.matching import Detections, class_precisions, confusion, match, mistakes


def columns(images, classes):
    """Detections of images of (boxes, scores, labels, true boxes, true labels, ignored); boxes are corners."""

    def flat(part, *shape, kind=float):
        entries = [np.asarray(image[part], kind).reshape(-1, *shape) for image in images]
        return np.concatenate(entries)

    def sizes(boxes):
        return np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], 1)

    number = [np.repeat(np.arange(len(images)), [len(image[part]) for image in images]) for part in (1, 4)]
    scores = flat(1)
    order = np.lexsort((-scores, number[0]))
    return Detections(
        [Path(f'{index}.jpg') for index in range(len(images))], [str(label) for label in range(classes)],
        number[0], sizes(flat(0, 4))[order], scores[order], flat(2, kind=int)[order],
        number[1], sizes(flat(3, 4)), flat(4, kind=int), flat(5, kind=bool),
    )  # fmt: skip


def random_images(seed, number=30, classes=3):
    """Images whose detections are shifted objects of mostly the right class, and nonsense; some have none or many."""
    random = np.random.default_rng(seed)
    images = []
    for index in range(number):
        corners = random.uniform(0, 80, (random.integers(0, 8), 2))
        true = np.concatenate([corners, corners + random.uniform(8, 30, corners.shape)], 1)
        labels = random.integers(0, classes, len(true))
        repeats = 130 if index == 3 else 2  # more than the best 100 of a class
        boxes = np.concatenate([true + random.normal(0, 1 + 0.02 * k, true.shape) for k in range(repeats)])
        nonsense = random.uniform(0, 40, (3, 4)) + np.array([0, 0, 45, 45])
        boxes = np.concatenate([boxes, nonsense])
        found = np.where(random.random(len(boxes)) < 0.8, np.resize(labels, len(boxes)) if len(labels) else 0, 1)
        # few different scores: ties have to go COCO's way
        scores = random.integers(1, 20, len(boxes)) / 20
        images.append((boxes, scores, found, true, labels, random.random(len(true)) < 0.1))
    return columns(images, classes)


def coco_precisions(d, most=(1, 10, 100)):
    truth, found = [], []
    for image, box, label, crowd in zip(d.true_images, d.true_boxes, d.true_labels, d.ignored):
        truth.append(dict(id=len(truth) + 1, image_id=int(image) + 1, category_id=int(label) + 1, iscrowd=int(crowd),
                          bbox=box.tolist(), area=float(box[2] * box[3])))  # fmt: skip
    for image, box, label, score in zip(d.images, d.boxes, d.labels, d.scores):
        found.append(dict(image_id=int(image) + 1, category_id=int(label) + 1, score=float(score), bbox=box.tolist()))
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        categories = [dict(id=i + 1, name=name) for i, name in enumerate(d.classes)]
        pictures = [dict(id=i + 1, width=200, height=200) for i in range(len(d.paths))]
        coco.dataset = dict(images=pictures, annotations=truth, categories=categories)
        coco.createIndex()
        evaluation = COCOeval(coco, coco.loadRes(found), 'bbox')
        evaluation.params.maxDets = list(most)
        evaluation.evaluate()
        evaluation.accumulate()
    # thresholds, recalls, classes, areas, most detections
    return evaluation.eval['precision'][:, :, :, 0, -1].mean(1).T


def test_the_table_of_a_test_counts_more_detections(monkeypatch):
    """As the note beside the report's table says; MMDetection's is of the last of its ``proposal_nums``."""
    detections, numbers = random_images(0), (100, 300, 1000)
    assert inspect.signature(CocoMetric).parameters['proposal_nums'].default == numbers
    table, ours = coco_precisions(detections, numbers), class_precisions(match(detections))
    assert 0 < abs(table - ours).max() < 0.03
    monkeypatch.setattr(matching, 'MOST', 1000)
    # nearly all of it: among hundreds of equal scores the two break ties differently
    np.testing.assert_allclose(class_precisions(match(detections)), table, rtol=0, atol=2e-4)


@pytest.mark.parametrize('seed', range(4))
def test_average_precision_is_cocos(seed, monkeypatch):
    detections = random_images(seed)
    ours, theirs = class_precisions(match(detections)), coco_precisions(detections)
    assert 0.1 < theirs.mean() < 0.9
    np.testing.assert_allclose(ours, theirs, atol=1e-12)
    monkeypatch.setattr(matching, 'BLOCK', 50)
    np.testing.assert_array_equal(class_precisions(match(detections)), ours)


def test_nothing_found_and_nothing_to_find():
    nothing = match(columns([([], [], [], [], [], [])], 2))
    assert np.isnan(class_precisions(nothing)).all() and not confusion(nothing).any()
    assert np.isnan(error_kinds(nothing).ap) and not mistakes(nothing, 0.3).any()
    box = [0, 0, 10, 10]
    useless = match(columns([([box], [0.9], [1], [], [], [])], 2))
    assert confusion(useless)[2, 1] == 1 and error_kinds(useless).count['background'] == 1
    missed = match(columns([([], [], [], [box], [0], [False])], 2))
    assert class_precisions(missed)[0].tolist() == [0] * 10 and mistakes(missed, 0.3).tolist() == [[0, 0, 1]]


def image(boxes, scores, labels, true_boxes, true_labels):
    return match(columns([(boxes, scores, labels, true_boxes, true_labels, [False] * len(true_labels))], 2))


def test_an_error_of_each_kind():
    box, far = [0, 0, 10, 10], [50, 50, 60, 60]
    shifted = [0, 5, 10, 15]  # overlaps by a third
    examples = {
        'classification': image([box], [0.9], [1], [box], [0]),
        'localization': image([shifted], [0.9], [0], [box], [0]),
        'both': image([shifted], [0.9], [1], [box], [0]),
        'duplicate': image([box, box], [0.9, 0.8], [0, 0], [box], [0]),
        'background': image([box, far], [0.8, 0.9], [0, 0], [box], [0]),
        'missed': image([box], [0.9], [0], [box, far], [0, 0]),
    }
    for kind, example in examples.items():
        errors = error_kinds(example)
        expected = {kind: 1} | ({'missed': 1} if kind == 'both' else {})
        assert {name: count for name, count in errors.count.items() if count} == expected, kind
        others = {name: cost for name, cost in errors.cost.items() if name not in expected}
        assert all(abs(cost) < 1e-9 for cost in others.values()), (kind, others)
    # mended, the detection is right: from nothing to all
    assert error_kinds(examples['classification']).cost['classification'] == pytest.approx(1)
    assert error_kinds(examples['localization']).cost['localization'] == pytest.approx(1)
    # a false detection before the right one halves the precision everywhere
    assert error_kinds(examples['background']).cost['background'] == pytest.approx(0.5)
    # half of the objects found: 51 of 101 recalls
    missed = error_kinds(examples['missed'])
    assert missed.ap == pytest.approx(51 / 101) and missed.cost['missed'] == pytest.approx(1 - 51 / 101)


def test_mending_gives_an_object_to_one_detection_only():
    box, near, nearer = [0, 0, 10, 10], [0, 5, 10, 15], [0, 4, 10, 14]
    errors = error_kinds(image([near, nearer], [0.9, 0.8], [0, 0], [box], [0]))
    assert errors.count['localization'] == 2 and errors.cost['localization'] == pytest.approx(1)
    # the object is there already: the shifted one is dropped
    errors = error_kinds(image([near, box], [0.9, 0.8], [0, 0], [box], [0]))
    assert errors.ap == pytest.approx(0.5) and errors.cost['localization'] == pytest.approx(0.5)


def test_confusion():
    box, other, far = [0, 0, 10, 10], [20, 20, 30, 30], [50, 50, 60, 60]
    example = image(
        [box, other, far, box], [0.9, 0.8, 0.7, 0.2], [0, 0, 1, 1], [box, other, [80, 80, 90, 90]], [0, 1, 1]
    )
    np.testing.assert_array_equal(confusion(example), [[1, 0, 0], [1, 0, 1], [0, 1, 0]])


def test_a_right_detection_keeps_its_object_from_a_surer_one_of_another_class():
    box = [0, 0, 10, 10]
    example = image([box, box], [0.9, 0.8], [1, 0], [box], [0])
    np.testing.assert_array_equal(confusion(example), [[1, 0, 0], [0, 0, 0], [0, 1, 0]])


def test_confusion_says_nothing_of_what_is_on_a_crowd():
    box = [0, 0, 10, 10]
    example = match(columns([([box, box], [0.9, 0.8], [0, 1], [box], [0], [True])], 2))
    assert not confusion(example).any()
    assert mistakes(example, 0.3).tolist() == [[0, 1, 0]]  # of class 1, whose crowd it isn't
