"""Every config of the papers' rows builds, takes a training step on random images, saves and loads."""

import ast
import io
from pathlib import Path

import pytest
import torch
from mmdet.testing import demo_mm_inputs
from mmengine.config import Config
from mmengine.registry import DefaultScope
from torch import nn

from ean_mmdet.engine import build_model

pytestmark = pytest.mark.slow

CONFIGS = Path(__file__).resolve().parents[2] / 'configs'
FILES = {
    file.stem: file
    for folder in ('.', 'an', 'ela')
    for file in sorted((CONFIGS / folder).glob('*.py'))
    if not file.stem.endswith('imagenet')  # classifiers: test_pretrain.py
}
ROWS = {
    f'{detector}_{module}{network}_{data}': plain
    for detector, network, data in (
        ('faster_rcnn', 'r50', 'coco'),
        ('ssdlite320', 'mobilenext', 'coco'),
        ('ssdlite320', 'mobilenext', 'voc'),
        ('ssdlite320', 'mobilenext', 'voc0712'),
    )
    for module in ('', 'se_', 'ca_', 'ean_')
    for plain in [f'{detector}_{network}_{data}']
}


def settings(file):
    """The settings of a config, as ``name = value``, without comments."""
    return [ast.unparse(statement) for statement in ast.parse(file.read_text(encoding='utf-8')).body]


def test_every_row_of_tables_4_and_5_is_here():
    assert len(ROWS) == 16
    for name in ROWS:
        assert (CONFIGS / f'{name}.py').is_file(), name


@pytest.mark.parametrize('name', [name for name, plain in ROWS.items() if name != plain])
def test_rows_are_two_settings_on_the_plain_one(name):
    lines = settings(CONFIGS / f'{name}.py')
    bases = ast.literal_eval(lines[0].removeprefix('_base_ = '))
    plain, *attention = [bases] if isinstance(bases, str) else bases
    assert plain == f'./{ROWS[name]}.py' and all(base.startswith('./_base_/attention/') for base in attention)
    assert len(lines) == 2 and lines[1].startswith('model = dict(backbone=dict(')


@pytest.mark.parametrize('name', FILES)
def test_trains_a_step_saves_and_loads(name, monkeypatch):
    torch.manual_seed(0)
    config = Config.fromfile(FILES[name])
    config.model.data_preprocessor.pop('batch_augments', None)  # YOLOX enlarges its images
    for backbone in (config.model.backbone, config.model.backbone.get('backbone', {})):
        backbone.pop('init_cfg', None)  # nothing is downloaded
    side = 320 if name.startswith('ssdlite320') else 64
    classes = 20 if 'voc' in name else 80
    with DefaultScope.overwrite_default_scope('mmdet'):
        model = build_model(config)
        model.init_weights()
        model.train()
        batch = demo_mm_inputs(2, [[3, side, side]] * 2, num_classes=classes, with_mask='mask' in name)
        data = model.data_preprocessor(batch, training=True)
        total, logs = model.parse_losses(model(**data, mode='loss'))
    assert total.isfinite(), logs
    total.backward()
    before = [p.detach().clone() for p in model.backbone.parameters()]
    torch.optim.SGD(model.parameters(), lr=0.01).step()
    assert any(not torch.equal(old, p) for old, p in zip(before, model.backbone.parameters()))
    file = io.BytesIO()
    torch.save(model.state_dict(), file)
    file.seek(0)
    for layer in (nn.Conv2d, nn.Linear):  # no initial weights, which take time
        monkeypatch.setattr(layer, 'reset_parameters', lambda self: None)
    with DefaultScope.overwrite_default_scope('mmdet'):
        loaded = build_model(config)
        loaded.load_state_dict(torch.load(file, weights_only=True))
        with torch.no_grad():
            outputs = [net.eval().extract_feat(data['inputs']) for net in (model, loaded)]
    assert all(torch.equal(a, b) for a, b in zip(*outputs, strict=True))


def test_what_yolox_reads():
    config = Config.fromfile(FILES['yolox_nano_ela_voc'])
    mixed = config.train_dataloader.dataset
    assert mixed.type == 'MultiImageMixDataset' and mixed.pipeline[0].type == 'Mosaic'
    assert [part.ann_file for part in mixed.dataset.datasets] == [
        'VOC2007/ImageSets/Main/trainval.txt',
        'VOC2012/ImageSets/Main/trainval.txt',
    ]
    validation = config.val_dataloader.dataset
    assert validation.type == 'VOCDataset' and validation.data_prefix == dict(sub_data_root='VOC2007/')
    assert {hook.type for hook in config.custom_hooks} >= {'YOLOXModeSwitchHook', 'EMAHook', 'SafeCheckpointHook'}
    assert config.val_evaluator == dict(type='VOCMetric', metric='mAP', eval_mode='11points')


def test_ela_in_every_block_of_yolox():
    model = build_model(Config.fromfile(FILES['yolox_nano_ela_voc']))
    plain = build_model(Config.fromfile(FILES['yolox_nano_voc']))
    added = {name.rsplit('.', 2)[0] for name in set(model.state_dict()) - set(plain.state_dict())}
    assert set(plain.state_dict()) <= set(model.state_dict())
    assert len(added) == 8 and all(name.endswith('conv2.pointwise_conv.bn_attention') for name in added)
    assert isinstance(model.backbone.stage1[1].blocks[0].conv2.pointwise_conv.bn, nn.BatchNorm2d)
