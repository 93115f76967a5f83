"""What is read of a config's data, written in the ways in which configs are."""

import runpy

import pytest
from mmengine.config import Config
from mmengine.dataset import Compose
from mmengine.registry import DefaultScope

from ean_mmdet.datasets import CLASSES, config_classes
from ean_mmdet.datasets.config_parts import is_classifier, leaf_datasets, pipeline_of, scope_of, set_pipeline, type_name
from ean_mmdet.deploy.onnx_export import description
from ean_mmdet.engine import input_shape
from ean_mmdet.errors import InputError
from tests.conftest import ROOT

PURE = """
from mmcv.transforms import LoadImageFromFile
from mmcv.transforms.processing import Resize
from mmdet.datasets import CocoDataset
from mmdet.datasets.transforms import LoadAnnotations, PackDetInputs
from mmdet.models import DetDataPreprocessor, RetinaNet

default_scope = None
test_pipeline = [
    dict(type=LoadImageFromFile, backend_args=None),
    dict(type=Resize, scale=(1333, 800), keep_ratio=True),
    dict(type=LoadAnnotations, with_bbox=True),
    dict(type=PackDetInputs, meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor')),
]
test_dataloader = dict(dataset=dict(type=CocoDataset, pipeline=test_pipeline, test_mode=True))
model = dict(type=RetinaNet, data_preprocessor=dict(type=DetDataPreprocessor, pad_size_divisor=32))
"""


@pytest.fixture
def pure(tmp_path):
    """A config as MMDetection's in pure Python: types are classes, and the default scope is None."""
    (tmp_path / 'pure.py').write_text(PURE)
    return Config.fromfile(tmp_path / 'pure.py')


def test_types_that_are_classes(pure):
    assert pure.get('default_scope') is None and scope_of(pure) == 'mmdet' and not is_classifier(pure)
    assert [type_name(step) for step in pipeline_of(pure)] == [
        'LoadImageFromFile', 'Resize', 'LoadAnnotations', 'PackDetInputs',
    ]  # fmt: skip
    assert len(config_classes(pure)) == 80
    assert input_shape(pure) == (800, 1344)

    class Graph:
        outputs = ('boxes',)

    about = description(pure, Graph, config_classes(pure), (800, 1344))
    assert about['resize'][0]['keep_ratio'] is True and about['pad'] is None


def wrapped(dataset, depth=2):
    inner = dict(type='ConcatDataset', datasets=[dataset, dict(dataset)])
    return dict(type='RepeatDataset', times=1, dataset=inner) if depth > 1 else inner


def test_data_sets_inside_wrappers():
    steps = [dict(type='LoadImageFromFile'), dict(type='mmdet.PackDetInputs')]
    part = dict(type='mmdet.CocoDataset', metainfo=dict(classes=CLASSES), pipeline=steps)
    config = Config(dict(test_dataloader=dict(dataset=wrapped(part))))
    assert len(list(leaf_datasets(config.test_dataloader.dataset))) == 2
    assert (
        config_classes(config) == CLASSES and [type_name(step) for step in pipeline_of(config)][-1] == 'PackDetInputs'
    )
    set_pipeline(config, [dict(type='Resize')])
    assert [leaf.pipeline for leaf in leaf_datasets(config.test_dataloader.dataset)] == [[dict(type='Resize')]] * 2
    with pytest.raises(InputError, match='the config has no val_dataloader'):
        pipeline_of(config, 'val')


@pytest.mark.parametrize('kind', ['bare', 'pure'])
def test_flipping_keeps_the_default_keys(kind, pure, sample_data):
    add = runpy.run_path(str(ROOT / 'tools/test.py'))['add_test_time_augmentation']
    config = pure.copy()
    if kind == 'bare':
        config = Config.fromfile(ROOT / 'configs/sample/ssdlite192_ean_mobilenext_sample.py')
        config.test_dataloader.dataset.pipeline[-1] = dict(type='PackDetInputs')
        config.test_dataloader.dataset = wrapped(config.test_dataloader.dataset)
    add(config)
    steps = [step for step in pipeline_of(config) if not type_name(step).endswith('Annotations')]
    with DefaultScope.overwrite_default_scope('mmdet'):
        found = Compose(steps)(dict(img_path=str(sample_data / 'JPEGImages/000001.jpg'), img_id=3))
    for sample, flip in zip(found['data_samples'], (True, False)):
        assert sample.flip is flip and sample.img_id == 3
        # what MMDetection's DetTTAModel and heads ask for
        assert {'img_shape', 'ori_shape', 'scale_factor', 'flip_direction'} <= set(sample.metainfo_keys())
