"""Configs that runs wrote: what mmengine dumps is read as it was, and nothing in them is run."""

import pytest
from mmengine.config import Config

from ean_mmdet.engine import check_buildable, load_config, read_dumped_config
from ean_mmdet.errors import InputError
from tests.conftest import ROOT
from tests.stock_settings import STOCK


@pytest.mark.parametrize(
    'path',
    [
        ROOT / 'configs/faster_rcnn_ean_r50_coco.py',
        ROOT / 'configs/pretrain/ean_mobilenext_imagenet.py',
        STOCK / 'dino/dino-5scale_swin-l_8xb2-36e_coco.py',
        STOCK / 'albu_example/mask-rcnn_r50_fpn_albu-1x_coco.py',
        STOCK.parents[0] / 'configs/dcnv2/mask-rcnn_r50-mdconv-c3-c5_fpn_1x_coco.py',
    ],
    ids=lambda path: path.stem,
)
def test_what_mmengine_dumps_is_read_as_it_was(tmp_path, path):
    config = load_config(str(path))
    config.merge_from_dict(dict(model=dict(odd={0: -1.5, 'a.b': (1,), 'c': set(), 'd': None}), big=float('inf')))
    config.dump(tmp_path / 'config.py')
    read = read_dumped_config(tmp_path / 'config.py')
    assert read.to_dict() == config.to_dict()
    check_buildable(read)


@pytest.mark.parametrize(
    'text',
    [
        "__import__('os').system('touch {}')",
        "a = __import__('os').system('touch {}')",
        "import os\nos.system('touch {}')",
        "a = dict(b=[open('{}', 'w')])",
        "a = dict(**open('{}', 'w').__dict__)",
        "a = [open('{}', 'w') for _ in range(3)]",
        "a = {{open('{}', 'w'): 1}}",
        "a = f\"{{open('{}', 'w')}}\"",
        "for a in [open('{}', 'w')]: pass",
        "a = dict(b=lambda: open('{}', 'w'))",
        "a: dict = open('{}', 'w')",
        "_base_ = ['./base.py']\na = open('{}', 'w')",
    ],
)
def test_nothing_in_it_is_run(tmp_path, text):
    path, trace = tmp_path / 'config.py', tmp_path / 'trace'
    path.write_text('model = dict(type="EAN")\n' + text.format(trace))
    with pytest.raises(InputError, match=r'config\.py was not read: line \d is no data: '):
        read_dumped_config(path)
    assert not trace.exists()


@pytest.mark.parametrize('text', ['a = (', 'text = 3', 'a = ' + '[' * 500 + ']' * 500])
def test_what_is_no_config(tmp_path, text):
    path = tmp_path / 'config.py'
    path.write_text(text)
    with pytest.raises(InputError, match=r'config\.py is no valid config'):
        read_dumped_config(path)


@pytest.mark.parametrize(
    ('settings', 'said'),
    [
        (dict(model=dict(type='os.system', command='true')), r"model\.type of .* is 'os\.system'"),
        (
            dict(model=dict(type='RetinaNet', neck=dict(type='mmengine.utils.path.mkdir_or_exist'))),
            r'model\.neck\.type',
        ),
        (dict(model=dict(type='mmdet.os.system')), r'model\.type'),
        (dict(model=dict(type='antigravity')), r'model\.type'),
        (dict(model=dict(type='system', _scope_='os')), None),  # a name without a point is imported from nowhere
        (dict(test_dataloader=dict(dataset=dict(ann_file='a/b.pkl'))), r'test_dataloader\.dataset\.ann_file .* pickle'),
        (dict(model=dict(type='mmdet.models.detectors.RetinaNet')), None),  # as of a config in pure Python
        (dict(model=dict(type='mmpretrain.ImageClassifier', backbone=dict(type='EANResNet'))), None),
        (dict(model=dict(nms=dict(type='nms'), roi_layer=dict(type='RoIAlign'))), None),
    ],
)
def test_what_is_built(settings, said):
    config = Config(settings)
    if said is None:
        check_buildable(config)
        return
    with pytest.raises(InputError, match=said):
        check_buildable(config)
