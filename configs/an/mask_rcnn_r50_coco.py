# What Attentive Normalization is compared with (ECCV 2020): Mask R-CNN, ResNet-50, 4conv1fc box head, COCO 2017, 2×.
_base_ = [
    'mmdet::_base_/models/mask-rcnn_r50_fpn.py',
    'mmdet::_base_/datasets/coco_instance.py',
    'mmdet::_base_/schedules/schedule_2x.py',
    '../_base_/epoch_runtime.py',
]

model = dict(roi_head=dict(bbox_head=dict(type='Shared4Conv1FCBBoxHead')))
optim_wrapper = dict(clip_grad=dict(max_norm=35, norm_type=2))
