"""Average precision against pycocotools, and kinds of errors against examples made by hand."""

import contextlib
import io
from pathlib import Path

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from ean_mmdet.report import Detections, class_precisions, confusion, error_kinds


def random_images(seed, number=30, classes=3):
    """Images whose detections are shifted objects of mostly the right class, and nonsense."""
    random = np.random.default_rng(seed)
    images = []
    for index in range(number):
        corners = random.uniform(0, 80, (random.integers(0, 8), 2))
        true = np.concatenate([corners, corners + random.uniform(8, 30, corners.shape)], 1)
        labels = random.integers(0, classes, len(true))
        boxes = np.concatenate([true + random.normal(0, 1, true.shape), true + random.normal(0, 2, true.shape)])
        nonsense = random.uniform(0, 40, (3, 4)) + np.array([0, 0, 45, 45])
        boxes = np.concatenate([boxes, nonsense])
        found = np.where(random.random(len(boxes)) < 0.8, np.resize(labels, len(boxes)) if len(labels) else 0, 1)
        # few different scores: ties have to go COCO's way
        scores = random.integers(1, 20, len(boxes)) / 20
        order = np.argsort(-scores, kind='stable')
        ignored = random.random(len(true)) < 0.1
        images.append(
            Detections(Path(f'{index}.jpg'), boxes[order], scores[order], found[order], true, labels, ignored)
        )
    return images


def coco_precisions(images, classes):
    truth, found = [], []
    for number, image in enumerate(images, 1):
        for box, label, crowd in zip(image.true_boxes, image.true_labels, image.ignored):
            x1, y1, x2, y2 = box.tolist()
            truth.append(dict(id=len(truth) + 1, image_id=number, category_id=int(label) + 1, iscrowd=int(crowd),
                              bbox=[x1, y1, x2 - x1, y2 - y1], area=(x2 - x1) * (y2 - y1)))  # fmt: skip
        for box, label, score in zip(image.boxes, image.labels, image.scores):
            x1, y1, x2, y2 = box.tolist()
            entry = dict(image_id=number, category_id=int(label) + 1, score=float(score))
            found.append(dict(entry, bbox=[x1, y1, x2 - x1, y2 - y1]))
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        categories = [dict(id=i + 1, name=str(i)) for i in range(classes)]
        pictures = [dict(id=i + 1, width=200, height=200) for i in range(len(images))]
        coco.dataset = dict(images=pictures, annotations=truth, categories=categories)
        coco.createIndex()
        evaluation = COCOeval(coco, coco.loadRes(found), 'bbox')
        evaluation.evaluate()
        evaluation.accumulate()
    # thresholds, recalls, classes, areas, most detections
    return evaluation.eval['precision'][:, :, :, 0, -1].mean(1).T


@pytest.mark.parametrize('seed', range(4))
def test_average_precision_is_cocos(seed):
    images = random_images(seed)
    ours, theirs = class_precisions(images, 3), coco_precisions(images, 3)
    assert 0.1 < theirs.mean() < 0.9
    np.testing.assert_allclose(ours, theirs, atol=1e-9)


def image(boxes, scores, labels, true_boxes, true_labels):
    return Detections(
        Path('x.jpg'), np.array(boxes, float).reshape(-1, 4), np.array(scores, float), np.array(labels, int),
        np.array(true_boxes, float).reshape(-1, 4), np.array(true_labels, int), np.zeros(len(true_labels), bool),
    )  # fmt: skip


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
        errors = error_kinds([example], 2)
        expected = {kind: 1} | ({'missed': 1} if kind == 'both' else {})
        assert {name: count for name, count in errors.count.items() if count} == expected, kind
        others = {name: cost for name, cost in errors.cost.items() if name not in expected}
        assert all(abs(cost) < 1e-9 for cost in others.values()), (kind, others)
    # mended, the detection is right: from nothing to all
    assert error_kinds([examples['classification']], 2).cost['classification'] == pytest.approx(1)
    assert error_kinds([examples['localization']], 2).cost['localization'] == pytest.approx(1)
    # a false detection before the right one halves the precision everywhere
    assert error_kinds([examples['background']], 2).cost['background'] == pytest.approx(0.5)
    # half of the objects found: 51 of 101 recalls
    missed = error_kinds([examples['missed']], 2)
    assert missed.ap == pytest.approx(51 / 101) and missed.cost['missed'] == pytest.approx(1 - 51 / 101)


def test_mending_gives_an_object_to_one_detection_only():
    box, near, nearer = [0, 0, 10, 10], [0, 5, 10, 15], [0, 4, 10, 14]
    errors = error_kinds([image([near, nearer], [0.9, 0.8], [0, 0], [box], [0])], 1)
    assert errors.count['localization'] == 2 and errors.cost['localization'] == pytest.approx(1)
    # the object is there already: the shifted one is dropped
    errors = error_kinds([image([near, box], [0.9, 0.8], [0, 0], [box], [0])], 1)
    assert errors.ap == pytest.approx(0.5) and errors.cost['localization'] == pytest.approx(0.5)


def test_confusion():
    box, other, far = [0, 0, 10, 10], [20, 20, 30, 30], [50, 50, 60, 60]
    example = image(
        [box, other, far, box], [0.9, 0.8, 0.7, 0.2], [0, 0, 1, 1], [box, other, [80, 80, 90, 90]], [0, 1, 1]
    )
    np.testing.assert_array_equal(confusion([example], 2), [[1, 0, 0], [1, 0, 1], [0, 1, 0]])
