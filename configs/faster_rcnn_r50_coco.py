# Table 5: Faster R-CNN, ResNet-50, COCO 2017.
_base_ = [
    'mmdet::_base_/models/faster-rcnn_r50_fpn.py',
    './_base_/datasets/coco_detection.py',
    './_base_/schedules/schedule_200k.py',
    './_base_/default_runtime.py',
]
