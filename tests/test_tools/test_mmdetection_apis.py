"""MMDetection's own ways to predict, init_detector and DetInferencer, with our configs and checkpoints."""

import warnings

import numpy as np
import pytest
import torch
from mmdet.apis import DetInferencer, inference_detector, init_detector
from mmengine.config import Config
from mmengine.dataset import Compose, pseudo_collate
from mmengine.registry import MODELS

import ean_mmdet
from ean_mmdet.attention import EAN
from tests.conftest import ROOT
from tests.test_tools.test_train_and_test import tiny, trained  # noqa: F401, fixtures


def by_hand(config: Config, checkpoint: dict, image) -> tuple[np.ndarray, np.ndarray]:
    """Boxes and scores, by the parts of the config alone."""
    model = MODELS.build(config.model)
    model.load_state_dict(checkpoint['state_dict'])
    data = Compose(config.test_dataloader.dataset.pipeline)(dict(img_path=str(image), img_id=0))
    with torch.no_grad():
        model.eval()
        found = model.test_step(pseudo_collate([data]))[0].pred_instances
    return found.bboxes.numpy(), found.scores.numpy()


def check(path, weights, image):
    checkpoint = torch.load(weights, weights_only=True)
    bboxes, scores = by_hand(Config.fromfile(path), checkpoint, image)
    assert len(bboxes) > 3
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        model = init_detector(str(path), str(weights), device='cpu')
        found = inference_detector(model, str(image)).pred_instances
        inferencer = DetInferencer(str(path), str(weights), device='cpu', show_progress=False)
        prediction = inferencer(str(image), no_save_vis=True)['predictions'][0]
    assert list(model.dataset_meta['classes']) == list(checkpoint['meta']['dataset_meta']['classes'])
    assert [len(ean_mmdet.positions(m)) for m in (model, inferencer.model)] == [count(model)] * 2 and count(model)
    np.testing.assert_allclose(found.bboxes.numpy(), bboxes, rtol=1e-4, atol=1e-3)
    np.testing.assert_allclose(prediction['bboxes'], bboxes, rtol=1e-4, atol=1e-3)
    np.testing.assert_allclose(prediction['scores'], scores, rtol=1e-4, atol=1e-5)


def count(model) -> int:
    return sum(isinstance(module, EAN) for module in model.modules())


def test_a_checkpoint_of_training(trained, tiny, sample_data):  # noqa: F811
    check(tiny, trained / 'iter_6.pth', sample_data / 'JPEGImages/000001.jpg')


@pytest.mark.parametrize('backbone', ['EANResNet', 'WithAttention'])
def test_a_detector_of_mmdetections_parts(backbone, sample_data, tmp_path):
    """Our Faster R-CNN, at an eighth of its size, and the same with attention inserted into MMDetection's ResNet."""
    inserted = (
        "dict(_delete_=True, type='WithAttention', attention=dict(type='EAN'), backbone=dict(type='ResNet', depth=18))"
    )
    path, weights = tmp_path / 'config.py', tmp_path / 'weights.pth'
    path.write_text(
        f"_base_ = '{ROOT}/configs/faster_rcnn_ean_r50_coco.py'\n"
        f'model = dict(backbone={"dict(depth=18)" if backbone == "EANResNet" else inserted},\n'
        '    neck=dict(in_channels=[64, 128, 256, 512]),\n'
        '    test_cfg=dict(rpn=dict(nms_pre=50, max_per_img=20), rcnn=dict(score_thr=0.0)))\n'
        "pipeline = [dict(type='LoadImageFromFile'), dict(type='Resize', scale=(128, 96), keep_ratio=True),\n"
        "    dict(type='PackDetInputs', meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor'))]\n"
        'test_dataloader = dict(dataset=dict(pipeline=pipeline))\n'
    )
    model = MODELS.build(Config.fromfile(path).model)
    for module in model.modules():
        if isinstance(module, EAN):
            torch.nn.init.normal_(module.alpha)
    meta = dict(dataset_meta=dict(classes=[f'class {index}' for index in range(80)]))
    torch.save(dict(state_dict=model.state_dict(), meta=meta), weights)
    check(path, weights, sample_data / 'JPEGImages/000001.jpg')
