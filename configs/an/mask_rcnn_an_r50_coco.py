# Attentive Normalization (ECCV 2020): Mask R-CNN, AN-ResNet-50, COCO 2017.
_base_ = [
    'mmdet::_base_/models/mask-rcnn_r50_fpn.py',
    'mmdet::_base_/datasets/coco_instance.py',
    '../_base_/schedules/schedule_200k.py',
    '../_base_/default_runtime.py',
]

# The plain ResNet-50 checkpoint that the base loads has no second norm for AN, which therefore starts afresh: no stage
# is frozen, and statistics are those of the whole batch, as two images a GPU are too few. With a checkpoint of your own
# AN-ResNet-50: --cfg-options model.backbone.init_cfg.checkpoint=PATH model.backbone.norm_eval=True
model = dict(
    backbone=dict(type='ANResNet', norm_cfg=dict(type='SyncBN'), norm_eval=False, frozen_stages=-1),
)
train_dataloader = dict(sampler=dict(type='InfiniteSampler', shuffle=True))
