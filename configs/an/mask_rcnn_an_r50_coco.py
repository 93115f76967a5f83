# Attentive Normalization (ECCV 2020): Mask R-CNN, AN-ResNet-50, group norms in FPN and mask head, ANs on group norms in
# the 4conv1fc box head, COCO 2017, 2×.
_base_ = './mask_rcnn_r50_coco.py'

# It starts from an AN-ResNet-50 that was pretrained, as a plain one has nothing for the ANs: train an_r50_imagenet.py
# first, or give your own by --cfg-options model.backbone.init_cfg.checkpoint=PATH
pretrained = dict(type='Pretrained', checkpoint='work_dirs/an_r50_imagenet/epoch_120.pth', prefix='backbone.')
norm_cfg = dict(type='GN', num_groups=32)
model = dict(
    backbone=dict(type='ANResNet', init_cfg=dict(_delete_=True, **pretrained)),
    neck=dict(norm_cfg=norm_cfg),
    roi_head=dict(
        bbox_head=dict(type='ANBBoxHead', num_mixtures=(10, 10, 20, 20), norm_cfg=norm_cfg),
        mask_head=dict(norm_cfg=norm_cfg),
    ),
)
