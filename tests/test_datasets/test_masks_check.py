"""Masks and segmentation maps that a pipeline loads."""

import json
import shutil

import pytest
from mmengine.config import Config
from PIL import Image

from ean_mmdet.datasets import CLASSES, check_data
from ean_mmdet.errors import InputError

WITH_MASKS = dict(type='LoadAnnotations', with_bbox=True, with_mask=True)


@pytest.fixture
def data(tmp_path, sample_data):
    """The sample data set with a mask for each box, its rectangle."""
    root = shutil.copytree(sample_data, tmp_path / 'data')
    for split in ('train', 'val'):
        change(root, set_rectangle, split)
    return root


def set_rectangle(box):
    x, y, width, height = box['bbox']
    box['segmentation'] = [[x, y, x + width, y, x + width, y + height, x, y + height]]


def change(root, function, split='train', boxes=slice(None)):
    file = root / f'annotations/instances_{split}.json'
    content = json.loads(file.read_text())
    for box in content['annotations'][boxes]:
        function(box)
    file.write_text(json.dumps(content))


def config(root, *steps, **options):
    part = dict(
        type='CocoDataset', data_root=str(root), ann_file='annotations/instances_train.json',
        data_prefix=dict(img='JPEGImages/'), metainfo=dict(classes=CLASSES),
    )  # fmt: skip
    return Config(dict(train_dataloader=dict(dataset=dict(part, pipeline=list(steps), **options))))


def check(root, *steps, **options):
    (checked,) = check_data(config(root, *steps, **options), ('train',))['train']
    return checked


def test_masks_are_looked_at_where_they_are_loaded(data, capfd):
    assert check(data, WITH_MASKS).unchecked == []
    change(data, lambda box: box.update(segmentation=[]), boxes=slice(3))
    check(data)
    check(data, dict(type='LoadAnnotations', with_bbox=True))
    inside = dict(type='RandomApply', transforms=[WITH_MASKS])
    for steps in ([WITH_MASKS], [inside]):
        with pytest.raises(InputError, match=r'3 of the \d+ boxes of .*instances_train.json have no mask'):
            check(data, *steps)
    assert not capfd.readouterr().err


def test_masks_that_mmdetection_ignores(data, capfd):
    change(data, lambda box: box.update(segmentation=[[1, 1, 2, 2]]), boxes=slice(2))
    check(data, WITH_MASKS)
    assert 'warning: train data: 2 of the ' in capfd.readouterr().err
    change(data, lambda box: box.update(segmentation=[[1, 1, 2, 2]]))
    with pytest.raises(InputError, match=r'are no polygons of three points or more.*nothing to train on'):
        check(data, WITH_MASKS)


def as_fractions(box):
    box['segmentation'] = [[side / 400 for side in box['segmentation'][0]]]


def test_masks_that_lie_outside_their_boxes(data, capfd):
    change(data, as_fractions, boxes=slice(2))
    check(data, WITH_MASKS)
    assert '2 of the ' in capfd.readouterr().err
    change(data, as_fractions)
    with pytest.raises(InputError, match='lie outside their box'):
        check(data, WITH_MASKS)


def test_run_lengths_are_not_checked(data):
    change(data, lambda box: box.update(segmentation=dict(size=[240, 320], counts=[76800])), boxes=slice(2))
    assert check(data, WITH_MASKS).unchecked == ['2 masks of CocoDataset that are run lengths, not polygons']


def test_segmentation_maps(data):
    steps = [dict(type='LoadAnnotations', with_bbox=True, with_seg=True)]
    prefix = dict(img='JPEGImages/', seg='maps/')
    with pytest.raises(InputError, match=r'24 of the 24 images that .* \(as segmentation maps\) lists are missing'):
        check(data, *steps, data_prefix=prefix)
    (data / 'maps').mkdir()
    for path in (data / 'JPEGImages').iterdir():
        Image.new('L', (320, 240)).save(data / 'maps' / f'{path.stem}.png')
    checked = check(data, *steps, data_prefix=prefix)
    assert checked.unchecked == ['what the segmentation maps of CocoDataset show']
    Image.new('L', (160, 120)).save(data / 'maps/000001.png')
    with pytest.raises(InputError, match=r'1 of the 24 segmentation maps .* is 160 × 120, its image 320 × 240'):
        check(data, *steps, data_prefix=prefix)


def test_masks_to_evaluate_with(data):
    part = config(data).train_dataloader.dataset
    part.update(ann_file='annotations/instances_val.json', test_mode=True)
    metric = dict(type='CocoMetric', ann_file=f'{data}/annotations/instances_val.json', metric=['bbox', 'segm'])
    whole = Config(dict(val_dataloader=dict(dataset=part), val_evaluator=metric))
    check_data(whole, ('val',))
    change(data, lambda box: box.pop('segmentation'), 'val', slice(1))
    with pytest.raises(InputError, match=r'CocoMetric compares masks, and 1 of the \d+ annotations of .* have none'):
        check_data(whole, ('val',))
    whole.val_evaluator.metric = 'bbox'
    check_data(whole, ('val',))
