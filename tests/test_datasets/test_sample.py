import filecmp
import json
from xml.etree import ElementTree

import numpy as np
import pytest
from mmdet.registry import DATASETS
from PIL import Image
from pycocotools.coco import COCO

from ean_mmdet.datasets import CLASSES, make_sample_dataset


def test_same_seed_same_files(tmp_path, sample_data):
    twin = make_sample_dataset(tmp_path / 'twin', train=24, val=8)
    other = make_sample_dataset(tmp_path / 'other', train=24, val=8, seed=1)
    files = [str(path.relative_to(twin)) for path in twin.rglob('*') if path.is_file()]
    assert len(files) == 2 * 32 + 2 + 3
    assert filecmp.cmpfiles(twin, sample_data, files, shallow=False) == (files, [], [])
    assert not filecmp.cmp(twin / 'JPEGImages/000001.jpg', other / 'JPEGImages/000001.jpg', shallow=False)


def test_reads_as_coco(sample_data):
    coco = COCO(str(sample_data / 'annotations/instances_train.json'))
    assert [category['name'] for category in coco.loadCats(coco.getCatIds())] == list(CLASSES)
    dataset = DATASETS.build(
        dict(
            type='CocoDataset',
            data_root=str(sample_data),
            ann_file='annotations/instances_train.json',
            data_prefix=dict(img='JPEGImages/'),
            metainfo=dict(classes=CLASSES),
            filter_cfg=dict(filter_empty_gt=True),
        )
    )
    assert len(dataset) == 24
    assert {box['bbox_label'] for info in dataset for box in info['instances']} == set(range(5))


def test_voc_and_coco_agree(sample_data):
    common = dict(data_root=str(sample_data), metainfo=dict(classes=CLASSES))
    voc = DATASETS.build(
        dict(type='VOCDataset', ann_file='ImageSets/Main/val.txt', data_prefix=dict(sub_data_root=''), **common)
    )
    coco = DATASETS.build(
        dict(
            type='CocoDataset',
            ann_file='annotations/instances_val.json',
            data_prefix=dict(img='JPEGImages/'),
            **common,
        )
    )
    assert len(voc) == len(coco) == 8
    for mine, theirs in zip(voc, coco):
        assert mine['img_path'] == theirs['img_path']
        assert [box['bbox_label'] for box in mine['instances']] == [box['bbox_label'] for box in theirs['instances']]
        # mmdet reads VOC's inclusive corners as if they were exclusive: half-open on one side
        np.testing.assert_allclose(
            [box['bbox'] for box in mine['instances']], [box['bbox'] for box in theirs['instances']], atol=1
        )


def test_boxes_fit_images_and_vary(sample_data):
    content = json.loads((sample_data / 'annotations/instances_train.json').read_text())
    areas = []
    for annotation in content['annotations']:
        x, y, width, height = annotation['bbox']
        assert 0 <= x < x + width <= 320 and 0 <= y < y + height <= 240
        assert 0 < annotation['area'] <= width * height
        areas.append(width * height)
    assert max(areas) > 5 * min(areas)
    with Image.open(sample_data / 'JPEGImages/000001.jpg') as image:
        assert image.size == (320, 240) and image.mode == 'RGB'
    occluded = [
        box.findtext('occluded')
        for path in (sample_data / 'Annotations').glob('*.xml')
        for box in ElementTree.parse(path).iter('object')
    ]
    assert {'0', '1'} == set(occluded)


@pytest.mark.parametrize('options,message', [(dict(train=0), 'at least 1'), (dict(size=(320, 32)), 'at least 64')])
def test_bad_arguments_are_named(tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        make_sample_dataset(tmp_path, **options)
