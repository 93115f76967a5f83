"""The fast COCO metric against pycocotools, number for number."""

import contextlib
import io
import json

import numpy as np
import pytest
from mmdet.datasets import CocoDataset, VOCDataset
from mmdet.datasets.api_wrappers import COCOeval
from mmdet.evaluation.metrics import CocoMetric
from mmengine.config import Config
from mmengine.registry import METRICS
from pycocotools import mask as coco_mask

from ean_mmdet.engine.runner import build_runner
from ean_mmdet.evaluation import FastCocoMetric
from ean_mmdet.evaluation.benchmark import imagined_detections, made_up, stats
from ean_mmdet.evaluation.coco_metric import Evaluation
from tests.test_tools.tiny import write_config

pytest.importorskip('hotcoco')
ITEMS = ['mAP', 'mAP_50', 'mAP_75', 'mAP_s', 'mAP_m', 'mAP_l', 'AR@100', 'AR@300', 'AR@1000', 'AR_s@1000', 'AR_m@1000',
         'AR_l@1000']  # fmt: skip


def assert_same(annotations, detections, **options):
    ours, theirs = (stats(annotations, detections, backend, **options) for backend in ('hotcoco', 'pycocotools'))
    assert len(ours[0]) == 12 and ours[0].tolist() == theirs[0].tolist()
    np.testing.assert_array_equal(ours[1], theirs[1])
    assert 0 < theirs[0][0] < 1


@pytest.mark.parametrize('seed', range(3))
def test_the_numbers_are_pycocotools_to_the_last_digit(seed):
    annotations, detections = made_up(images=40, objects=12, classes=5, detections=40, seed=seed)
    assert any(entry['iscrowd'] for entry in annotations['annotations'])
    assert len({entry['image_id'] for entry in annotations['annotations']}) < 40
    assert_same(annotations, detections)
    assert_same(annotations, detections, maxDets=[1, 10, 100])
    assert_same(annotations, detections, catIds=[4, 2])
    assert_same(annotations, detections, catIds=[4, 2], useCats=0)
    assert_same(annotations, detections, iouThrs=[0.5, 0.75], imgIds=[3, 1, 9, 17])


@pytest.mark.parametrize('most', [[100, 300, 1000], [1, 10, 100], [100, 110, 120]])
def test_more_than_a_hundred_detections_of_a_class(most):
    """pycocotools' mAP is of 100 detections whatever is asked for, mAP_50 and all else of the last number."""
    annotations, detections = made_up(images=8, objects=30, classes=1, detections=150)
    assert_same(annotations, detections, maxDets=most)
    numbers = [stats(annotations, detections, 'hotcoco', maxDets=limits)[0] for limits in (most, [1, 10, 150])]
    assert (numbers[0][1] == numbers[1][1]) == (most[-1] >= 150) and numbers[1][0] == -1


def test_images_whose_ids_are_texts_and_equal_scores():
    annotations, detections = made_up(images=30, objects=6, classes=3, detections=20)
    for entry in (*annotations['annotations'], *detections):
        entry['image_id'] = f'BloodImage_{entry["image_id"]:05}'
    for entry in annotations['images']:
        entry['id'] = f'BloodImage_{entry["id"]:05}'
    for entry in detections:
        entry['score'] = round(entry['score'], 1)
    assert_same(annotations, detections)


def test_masks():
    annotations, detections = made_up(images=20, objects=5, classes=3, detections=10)
    for entry in (*annotations['annotations'], *detections):
        x, y, width, height = entry['bbox']
        entry['segmentation'] = [[x, y, x + width, y, x + width, y + height, x, y + height * 0.6]]
    for entry in detections:
        del entry['bbox']
        (mask,) = coco_mask.frPyObjects(entry['segmentation'], 480, 640)
        entry['segmentation'] = dict(mask, counts=mask['counts'].decode())
    assert_same(annotations, detections, kind='segm')


@pytest.mark.parametrize('name', ['bccd', 'coco_mini'])
def test_real_data(name, shared_data, monkeypatch):
    if name == 'bccd':
        root = str(shared_data / 'bccd/BCCD')
        classes = ('RBC', 'WBC', 'Platelets')
        dataset = VOCDataset(
            data_root=root, ann_file='ImageSets/Main/test.txt', data_prefix=dict(sub_data_root=''), test_mode=True,
            metainfo=dict(classes=classes, palette=[(0, 0, 0)] * 3), pipeline=[],
        )  # fmt: skip
        metric = dict(metric='bbox')
    else:
        file = str(shared_data / 'coco_mini/annotations/instances_val2017.json')
        dataset = CocoDataset(ann_file=file, data_prefix=dict(img=''), test_mode=True, pipeline=[])
        metric = dict(ann_file=file)
    computed, unrounded = [], []
    for counter in (Evaluation, COCOeval):
        original = counter.summarize
        keep = lambda self, original=original: (original(self), unrounded.append(self.stats.tolist()))  # noqa: E731
        monkeypatch.setattr(counter, 'summarize', keep)
    for kind in (FastCocoMetric, CocoMetric):
        evaluator = kind(**metric, classwise=True, metric_items=ITEMS)
        evaluator.dataset_meta = dataset.metainfo
        evaluator.process({}, list(imagined_detections(dataset)))
        with contextlib.redirect_stdout(io.StringIO()):
            computed.append(evaluator.compute_metrics(evaluator.results))
    np.testing.assert_equal(*computed)
    assert len(computed[0]) >= 12 and 0 < computed[0]['bbox_mAP'] < 1
    assert unrounded[0] == unrounded[1] and len(unrounded[0]) == 12


def test_no_detections_and_those_of_other_images(tmp_path):
    annotations, detections = made_up(images=3, objects=2, classes=2, detections=2)
    (tmp_path / 'x.json').write_text(json.dumps(annotations))
    metric = FastCocoMetric(ann_file=str(tmp_path / 'x.json'))
    metric.dataset_meta = dict(classes=['class 1', 'class 2'])
    nothing = dict(bboxes=np.zeros((0, 4)), scores=np.zeros(0), labels=np.zeros(0, int), img_id=1)
    assert metric.compute_metrics([({}, nothing)]) == {}  # as MMDetection's
    with pytest.raises(AssertionError, match='do not correspond to current coco set: image 99'):
        stats(annotations, [dict(detections[0], image_id=99)], 'hotcoco')


def test_backends(monkeypatch):
    with pytest.raises(ValueError, match="backend must be one of auto, hotcoco, pycocotools, got 'fast'"):
        FastCocoMetric(backend='fast')
    assert FastCocoMetric().fast and not FastCocoMetric(backend='pycocotools').fast
    monkeypatch.setattr('ean_mmdet.evaluation.coco_metric.find_spec', lambda name: None)
    assert not METRICS.build(dict(type='FastCocoMetric')).fast
    with pytest.raises(ImportError, match='pip install hotcoco'):
        FastCocoMetric(backend='hotcoco')


def test_the_tools_take_it_and_the_config_keeps_its_name(sample_data, tmp_path):
    config = Config.fromfile(write_config(tmp_path, sample_data))
    config.work_dir = str(tmp_path)
    runner = build_runner(config)
    assert type(runner.val_evaluator.metrics[0]) is FastCocoMetric
    assert runner.cfg.val_evaluator.type == 'CocoMetric'
