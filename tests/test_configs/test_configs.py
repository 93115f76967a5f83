"""The configs say what the paper says, and EAN's train and predict. That every row builds: test_paper_rows.py."""

import json
from functools import cache

import numpy as np
import pytest
import torch
from mmdet.structures import DetDataSample
from mmengine.config import Config, ConfigDict
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, PARAM_SCHEDULERS
from mmengine.structures import InstanceData
from torch import nn

from ean_mmdet.engine import build_model
from tests.conftest import ROOT
from tests.test_backbones.test_mobilenext import count

pytestmark = pytest.mark.slow

CONFIGS = sorted(str(path.relative_to(ROOT)) for path in (ROOT / 'configs').rglob('*.py') if '_base_' not in path.parts)
PAPER = [path for path in CONFIGS if path.count('/') == 1]
GPUS = 8


def read(path: str) -> Config:
    return Config.fromfile(ROOT / path)


def training_sample(classes: int) -> DetDataSample:
    size = dict(img_shape=(320, 320), pad_shape=(320, 320), batch_input_shape=(320, 320), ori_shape=(320, 320))
    sample = DetDataSample(metainfo=dict(size, scale_factor=(1.0, 1.0)))
    boxes = torch.tensor([[20.0, 30.0, 120.0, 160.0], [150.0, 40.0, 300.0, 280.0]])
    sample.gt_instances = InstanceData(bboxes=boxes, labels=torch.tensor([0, classes - 1]))
    return sample


@pytest.mark.parametrize('path', [path for path in CONFIGS if '_ean_' in path and 'cifar' not in path])
def test_trains_a_step_and_predicts(path):
    config = read(path)
    assert config.custom_imports['imports'] == ['ean_mmdet']
    detector = MODELS.build(config.model)
    head = config.model.get('bbox_head') or config.model.roi_head.bbox_head
    samples = [training_sample(head.num_classes) for _ in range(2)]
    wrapper = build_optim_wrapper(detector, dict(config.optim_wrapper, clip_grad=dict(max_norm=1)))
    # the first layer's weights may be frozen; the head's never are
    before = {name: value.clone() for name, value in detector.state_dict().items() if 'head' in name}
    detector.train()
    losses = detector.loss(torch.randn(2, 3, 320, 320), samples)
    wrapper.update_params(detector.parse_losses(losses)[0])
    after = detector.state_dict()
    assert any(not torch.equal(after[name], value) for name, value in before.items())
    assert all(value.isfinite().all() for value in after.values())
    detector.eval()
    with torch.no_grad():
        predictions = detector.predict(torch.randn(1, 3, 320, 320), samples[:1])
    assert predictions[0].pred_instances.bboxes.shape[-1] == 4


@cache
def rates(optim_wrapper: str, param_scheduler: str, asked: tuple[int, ...]) -> list[float]:
    """The rates at the iterations asked for, of a schedule as JSON: walked once, however many configs have it."""
    optimizer = build_optim_wrapper(nn.Linear(1, 1), ConfigDict(json.loads(optim_wrapper)))
    schedulers = [
        PARAM_SCHEDULERS.build(cfg, default_args=dict(optimizer=optimizer)) for cfg in json.loads(param_scheduler)
    ]
    seen = {}
    for iteration in range(asked[-1] + 1):
        if iteration in asked:
            seen[iteration] = optimizer.get_lr()['lr'][0]
        for scheduler in schedulers:
            scheduler.step()
    return [seen[iteration] for iteration in asked]


@pytest.mark.parametrize('path', PAPER)
def test_schedule_is_the_papers(path):
    config = read(path)
    base_lr = 0.001 if 'voc' in path else 0.01
    assert config.train_cfg.type == 'IterBasedTrainLoop' and config.train_cfg.max_iters == 200_000
    assert config.optim_wrapper.optimizer.type == 'SGD' and config.optim_wrapper.optimizer.momentum == 0.9
    asked = (0, 250, 499, 500, 119_999, 120_000, 179_999, 180_000, 199_999)
    seen = rates(json.dumps(config.optim_wrapper), json.dumps(config.param_scheduler), asked)
    warm_up = 0.001 + (1 - 0.001) * 250 / 499
    factors = [0.001, warm_up, 1, 1, 1, 0.1, 0.1, 0.01, 0.01]
    np.testing.assert_allclose(seen, base_lr * np.array(factors), rtol=1e-6)


@pytest.mark.parametrize('path', PAPER)
def test_total_batch_is_the_papers(path):
    config = read(path)
    total = 32 if 'voc' in path else 16
    assert config.train_dataloader.batch_size * GPUS == total
    assert config.auto_scale_lr == dict(enable=False, base_batch_size=total)
    assert config.train_dataloader.sampler.type == 'InfiniteSampler'


@pytest.mark.parametrize('path', PAPER)
def test_validates_and_keeps_the_best(path):
    config = read(path)
    checkpoint = config.default_hooks.checkpoint
    assert config.train_cfg.val_interval == checkpoint.interval == 10_000
    assert checkpoint.by_epoch is False and checkpoint.save_best == 'auto' and checkpoint.max_keep_ckpts == 3


@pytest.mark.parametrize('path', [path for path in PAPER if path.endswith('mobilenext_coco.py')])
def test_batch_norms_of_ssdlite_are_synchronized_on_coco(path):
    assert read(path).sync_bn == 'torch'


@pytest.mark.parametrize('module', ['', 'se_', 'ca_', 'ean_'])
def test_voc_splits_are_those_of_table_4(module):
    config = read(f'configs/ssdlite320_{module}mobilenext_voc.py')
    assert [part.ann_file for part in config.train_dataloader.dataset.datasets] == [
        'VOC2007/ImageSets/Main/trainval.txt',
        'VOC2012/ImageSets/Main/train.txt',
    ]
    assert config.val_dataloader.dataset.ann_file == 'VOC2012/ImageSets/Main/val.txt'
    assert config.val_evaluator.eval_mode == 'area'


@pytest.mark.parametrize('module', ['', 'se_', 'ca_', 'ean_'])
def test_voc0712_splits_are_the_common_ones(module):
    config = read(f'configs/ssdlite320_{module}mobilenext_voc0712.py')
    assert config.model == read(f'configs/ssdlite320_{module}mobilenext_voc.py').model
    assert [part.ann_file for part in config.train_dataloader.dataset.datasets] == [
        'VOC2007/ImageSets/Main/trainval.txt',
        'VOC2012/ImageSets/Main/trainval.txt',
    ]
    assert [part.data_prefix.sub_data_root for part in config.train_dataloader.dataset.datasets] == [
        'VOC2007/',
        'VOC2012/',
    ]
    assert config.test_dataloader.dataset.ann_file == 'VOC2007/ImageSets/Main/test.txt'
    assert config.test_evaluator.eval_mode == '11points'


def test_parameters_of_the_detectors():
    plain, ean = (count(MODELS.build(read(f'configs/faster_rcnn_{name}r50_coco.py').model)) for name in ('', 'ean_'))
    assert plain == 41_753_056  # 41.753 M, the paper's 41.7
    assert ean - plain == 944
    ssdlite = count(MODELS.build(read('configs/ssdlite320_mobilenext_coco.py').model))
    assert round(ssdlite / 1e6, 1) == 4.5
    voc = count(MODELS.build(read('configs/ssdlite320_mobilenext_voc.py').model))
    assert round(voc / 1e6, 1) == 3.4


@pytest.mark.parametrize('module', ['', 'ean_', 'se_'])
def test_the_documented_start_of_ssdlite(module, tmp_path):
    """docs/pretraining.md: the detector's backbone computes what the classifier's did."""
    classifier = build_model(read('configs/pretrain/mobilenext_imagenet.py'))
    for norm in classifier.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.weight.data.uniform_(0.5, 1.5)
            norm.running_var.uniform_(0.01, 2)
    torch.save(dict(state_dict=classifier.state_dict(), meta={}), tmp_path / 'epoch_100.pth')
    (tmp_path / 'started.py').write_text(
        f"_base_ = '{ROOT}/configs/ssdlite320_{module}mobilenext_voc0712.py'\n"
        f"start = dict(type='WarmStart', checkpoint='{tmp_path}/epoch_100.pth')\n"
        'model = dict(backbone=dict(norm_cfg=dict(eps=1e-5), init_cfg=dict(_delete_=True, **start)))\n'
    )
    backbone = build_model(Config.fromfile(tmp_path / 'started.py')).backbone
    backbone.init_weights()
    image = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        expected = classifier.eval().backbone(image)[-1]
        torch.testing.assert_close(
            backbone.eval()(image)[-1], expected, rtol=1e-4, atol=1e-4 * expected.abs().max().item()
        )


def test_mask_rcnn_of_attentive_normalization_is_as_published():
    an, plain = (read(f'configs/an/mask_rcnn_{name}r50_coco.py') for name in ('an_', ''))
    for config in (an, plain):
        assert config.train_cfg.max_epochs == 24 and config.optim_wrapper.optimizer.lr == 0.02
        assert config.optim_wrapper.clip_grad == dict(max_norm=35, norm_type=2)
        steps = next(schedule for schedule in config.param_scheduler if schedule.type == 'MultiStepLR')
        assert steps.milestones == [16, 22] and config.train_dataloader.batch_size == 2
        assert config.default_hooks.checkpoint.by_epoch and config.default_hooks.logger.log_metric_by_epoch
    group_norm = dict(type='GN', num_groups=32)
    assert an.model.neck.norm_cfg == an.model.roi_head.mask_head.norm_cfg == group_norm
    assert an.model.roi_head.bbox_head.type == 'ANBBoxHead'
    assert 'norm_cfg' not in plain.model.neck and plain.model.roi_head.bbox_head.type == 'Shared4Conv1FCBBoxHead'
