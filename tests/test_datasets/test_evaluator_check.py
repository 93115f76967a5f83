"""Evaluators of several data sets, and of types that have no file of annotations."""

import json
import shutil

import pytest
from mmengine.config import Config

from ean_mmdet.datasets import CLASSES, check_data
from ean_mmdet.errors import InputError


@pytest.fixture
def data(tmp_path, sample_data):
    """A copy of the sample data set that a test may spoil."""
    return shutil.copytree(sample_data, tmp_path / 'data')


def part(root, split):
    return dict(
        type='CocoDataset',
        data_root=str(root),
        ann_file=f'annotations/instances_{split}.json',
        data_prefix=dict(img='JPEGImages/'),
        metainfo=dict(classes=CLASSES),
        test_mode=True,
    )


def metric(root, split, **options):
    return dict(type='CocoMetric', ann_file=f'{root}/annotations/instances_{split}.json', **options)


def test_several_data_sets_with_an_evaluator_each(data):
    splits = ('train', 'val')
    dataset = dict(type='ConcatDataset', datasets=[part(data, split) for split in splits])
    evaluator = dict(
        type='MultiDatasetsEvaluator', metrics=[metric(data, split) for split in splits], dataset_prefixes=splits
    )
    config = Config(dict(val_dataloader=dict(dataset=dataset), val_evaluator=evaluator))
    first, second = check_data(config, ('val',))['val']
    assert (first.images, second.images) == (24, 8) and not first.unchecked
    config.val_evaluator.metrics.reverse()
    with pytest.raises(InputError, match='24 of the 24 images are not in the first'):
        check_data(config, ('val',))


def test_several_evaluators_of_one_data_set(data):
    config = Config(dict(val_dataloader=dict(dataset=part(data, 'val'))))
    config.val_evaluator = [metric(data, 'val'), dict(type='VOCMetric', metric='mAP')]
    check_data(config, ('val',))
    config.val_evaluator.append(metric(data, 'train', prefix='other'))
    with pytest.raises(InputError, match=r'CocoMetric has the annotation file .*instances_train'):
        check_data(config, ('val',))


def test_sizes_and_crowds_of_the_evaluators_file(data):
    config = Config(dict(val_dataloader=dict(dataset=part(data, 'val')), val_evaluator=metric(data, 'other')))
    content = json.loads((data / 'annotations/instances_val.json').read_text())
    file = data / 'annotations/instances_other.json'
    file.write_text(json.dumps(content))
    check_data(config, ('val',))
    content['images'][0]['width'] = 300
    file.write_text(json.dumps(content))
    with pytest.raises(InputError, match='have another size there'):
        check_data(config, ('val',))
    content['images'][0]['width'] = 320
    del content['annotations'][0]['iscrowd']
    file.write_text(json.dumps(content))
    with pytest.raises(InputError, match='1 annotations without iscrowd'):
        check_data(config, ('val',))


def test_a_metric_that_cannot_be_built(data):
    config = Config(dict(val_dataloader=dict(dataset=part(data, 'val')), val_evaluator=metric(data, 'val', metric='x')))
    with pytest.raises(InputError, match='val_evaluator: CocoMetric cannot be built: KeyError'):
        check_data(config, ('val',))
