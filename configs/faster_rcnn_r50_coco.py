# Table 5: Faster R-CNN, ResNet-50, COCO 2017.
_base_ = [
    'mmdet::_base_/models/faster-rcnn_r50_fpn.py',
    './_base_/datasets/coco_detection.py',
    './_base_/schedules/schedule_200k.py',
    './_base_/default_runtime.py',
]

# The base freezes stage 1, where attention that is new could never learn. So no row freezes it, this one included.
model = dict(backbone=dict(frozen_stages=0))
