"""Configs that MMDetection ships aren't refused over right data; ``tests/stock_configs.py`` checks all of them."""

import pytest

from tests.stock_configs import CONFIGS, check_stock_config


@pytest.mark.parametrize(
    'name',
    [
        'htc/htc_r50_fpn_1x_coco.py',  # a semantic head with classes of its own
        'scnet/scnet_r50_fpn_1x_coco.py',
        'rpn/rpn_r50_fpn_1x_coco.py',
        'faster_rcnn/faster-rcnn_r50_fpn_fcos-rpn_1x_coco.py',  # an FCOSHead as RPN head
        'grounding_dino/grounding_dino_swin-t_finetune_16xb2_1x_coco.py',  # classes as text
        'mm_grounding_dino/coco/grounding_dino_swin-t_finetune_16xb4_1x_sft_coco.py',
        'panoptic_fpn/panoptic-fpn_r50_fpn_1x_coco.py',
        'mask2former_vis/mask2former_r50_8xb2-8e_youtubevis2021.py',
        'qdtrack/qdtrack_faster-rcnn_r50_fpn_8xb2-4e_mot17halftrain_test-mot17halfval.py',
        'deepsort/deepsort_faster-rcnn_r50_fpn_8xb2-4e_mot17train_test-mot17test.py',  # people told apart
        'faster_rcnn/faster-rcnn_r50-caffe_fpn_ms-1x_coco-person.py',
        'fast_rcnn/fast-rcnn_r50_fpn_1x_coco.py',  # proposals from a file
        'soft_teacher/soft-teacher_faster-rcnn_r50-caffe_fpn_180k_semi-0.1-coco.py',  # images without boxes
        'pascal_voc/ssd300_voc0712.py',
        'wider_face/retinanet_r50_fpn_1x_widerface.py',
        'openimages/faster-rcnn_r50_fpn_32xb2-1x_openimages.py',
        'crowddet/crowddet-rcnn_r50_fpn_8xb2-30e_crowdhuman.py',
        'objects365/faster-rcnn_r50_fpn_16xb4-1x_objects365v1.py',
        'deepfashion/mask-rcnn_r50_fpn_15e_deepfashion.py',
    ],
)
def test_none_is_refused(name, tmp_path, monkeypatch):
    if not (CONFIGS / name).is_file():
        pytest.skip(f'this version of MMDetection has no {name}')
    monkeypatch.chdir(tmp_path)
    end, text = check_stock_config(CONFIGS / name)
    # COCO's panoptic evaluator has a package of its own
    assert end in ('good', 'partly checked') or 'panopticapi is not installed' in text, text
