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

from ean_mmdet.evaluation.detections import Detections, Truth
from ean_mmdet.evaluation.matching import class_precisions, confusion, match_detections, mistakes
from ean_mmdet.evaluation.report import KINDS


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
    truth = Truth(
        range(len(images)), [Path(f'{index}.jpg') for index in range(len(images))], [str(k) for k in range(classes)],
        range(classes), number[1], sizes(flat(3, 4)), flat(4, kind=int), flat(5, kind=bool),
    )  # fmt: skip
    return Detections(truth, number[0], sizes(flat(0, 4))[order], scores[order], flat(2, kind=int)[order])


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


def coco_evaluation(d, most=(1, 10, 100)):
    truth, found = [], []
    for image, box, label, crowd in zip(d.truth.images, d.truth.boxes, d.truth.labels, d.truth.ignored):
        truth.append(dict(id=len(truth) + 1, image_id=int(image) + 1, category_id=int(label) + 1, iscrowd=int(crowd),
                          bbox=box.tolist(), area=float(box[2] * box[3])))  # fmt: skip
    for image, box, label, score in zip(d.images, d.boxes, d.labels, d.scores):
        found.append(dict(image_id=int(image) + 1, category_id=int(label) + 1, score=float(score), bbox=box.tolist()))
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        categories = [dict(id=i + 1, name=name) for i, name in enumerate(d.truth.classes)]
        pictures = [dict(id=i + 1, width=200, height=200) for i in range(len(d.truth.paths))]
        coco.dataset = dict(images=pictures, annotations=truth, categories=categories)
        coco.createIndex()
        evaluation = COCOeval(coco, coco.loadRes(found), 'bbox')
        evaluation.params.maxDets = list(most)
        evaluation.evaluate()
        evaluation.accumulate()
    return evaluation


def coco_precisions(d, most=(1, 10, 100)):
    evaluation = coco_evaluation(d, most)
    # thresholds, recalls, classes, areas, most detections
    return evaluation.eval['precision'][:, :, :, 0, -1].mean(1).T


def test_the_table_of_a_test_counts_more_detections():
    """As the note beside the report's table says; MMDetection's is of the last of its ``proposal_nums``."""
    detections, numbers = random_images(0), (100, 300, 1000)
    assert inspect.signature(CocoMetric).parameters['proposal_nums'].default == numbers
    table, ours = coco_precisions(detections, numbers), class_precisions(match_detections(detections))
    assert 0 < abs(table - ours).max() < 0.03
    np.testing.assert_array_equal(class_precisions(match_detections(detections, 1000)), table)


@pytest.mark.parametrize('seed', range(4))
def test_average_precision_is_cocos(seed):
    detections = random_images(seed)
    assert seed or (detections.boxes[:, 2:] < 0).any()  # whose area is negative: they don't count
    ours, theirs = class_precisions(match_detections(detections)), coco_precisions(detections)
    assert 0.1 < theirs.mean() < 0.9
    np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize('seed', range(2))
def test_each_match_is_cocos(seed):
    detections = random_images(seed)
    evaluation = coco_evaluation(detections)
    expected = np.full((len(detections.scores), 10), -2)
    for entry in evaluation.evalImgs:
        if entry and entry['aRng'] == [0, 1e10] and entry['dtIds']:
            objects = np.where(entry['dtIgnore'], -2, entry['dtMatches'] - 1)
            expected[np.array(entry['dtIds']) - 1] = objects.T
    np.testing.assert_array_equal(match_detections(detections).objects, expected)


def test_nothing_found_and_nothing_to_find():
    nothing = match_detections(columns([([], [], [], [], [], [])], 2))
    assert np.isnan(class_precisions(nothing)).all() and not confusion(nothing).any()
    assert not kinds(nothing)[1] and not mistakes(nothing, 0.3).any()
    box = [0, 0, 10, 10]
    useless = match_detections(columns([([box], [0.9], [1], [], [], [])], 2))
    assert confusion(useless)[2, 1] == 1 and kinds(useless)[1] == {'Bkg': 1}
    missed = match_detections(columns([([], [], [], [box], [0], [False])], 2))
    assert class_precisions(missed)[0].tolist() == [0] * 10 and mistakes(missed, 0.3).tolist() == [[0, 0, 1]]


def image(boxes, scores, labels, true_boxes, true_labels):
    return match_detections(columns([(boxes, scores, labels, true_boxes, true_labels, [False] * len(true_labels))], 2))


def kinds(matches):
    """What TIDE's kinds of errors cost, and those that there are."""
    tide = matches.evaluation.tide_errors()
    assert set(KINDS) <= set(tide['delta_ap'])
    cost = {kind: tide['delta_ap'][kind] for kind in KINDS}
    return cost, {kind: tide['counts'][kind] for kind in KINDS if tide['counts'][kind]}


def test_an_error_of_each_kind():
    box, far = [0, 0, 10, 10], [50, 50, 60, 60]
    shifted = [0, 5, 10, 15]  # overlaps by a third
    examples = {
        'Cls': image([box], [0.9], [1], [box], [0]),
        'Loc': image([shifted], [0.9], [0], [box], [0]),
        'Both': image([shifted], [0.9], [1], [box], [0]),
        'Dupe': image([box, box], [0.9, 0.8], [0, 0], [box], [0]),
        'Bkg': image([box, far], [0.8, 0.9], [0, 0], [box], [0]),
        'Miss': image([box], [0.9], [0], [box, far], [0, 0]),
    }
    # mended, the detection is right: from nothing to all; a false detection before the right one halves the precision
    # everywhere; half of the objects found are 51 of 101 recalls
    costs = dict(Cls=1, Loc=1, Both=0, Dupe=0, Bkg=0.5, Miss=50 / 101)
    for kind, example in examples.items():
        cost, count = kinds(example)
        assert count == {kind: 1} | ({'Miss': 1} if kind == 'Both' else {}), kind
        assert cost == pytest.approx({name: costs[kind] if name == kind else 0 for name in KINDS}, abs=1e-9), kind


def test_mending_gives_an_object_to_one_detection_only():
    box, near, nearer = [0, 0, 10, 10], [0, 5, 10, 15], [0, 4, 10, 14]
    cost, count = kinds(image([near, nearer], [0.9, 0.8], [0, 0], [box], [0]))
    assert count['Loc'] == 2 and cost['Loc'] == pytest.approx(1)
    # the object is there already: the shifted one is dropped
    cost, _ = kinds(image([near, box], [0.9, 0.8], [0, 0], [box], [0]))
    assert cost['Loc'] == pytest.approx(0.5)


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
    example = match_detections(columns([([box, box], [0.9, 0.8], [0, 1], [box], [0], [True])], 2))
    assert not confusion(example).any()
    assert mistakes(example, 0.3).tolist() == [[0, 1, 0]]  # of class 1, whose crowd it isn't
