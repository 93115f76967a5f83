# SSDLite-MobileNetV2 of the comparison from ImageNet weights, plain, on BCCD: the model is MMDetection's with a level
# of stride 8 in front, as platelets are some 14 pixels wide; data and augmentation are those of the SSDLite-MobileNeXt.
# The protocol is docs/results/transfer.md.
_base_ = './ssdlite192_mobilenext_bccd.py'

max_iters = 300
norm = dict(type='BN', eps=0.001, momentum=0.03)
level_channels = (32, 96, 1280, 256)
model = dict(
    _delete_=True,
    type='SingleStageDetector',
    data_preprocessor=dict(
        type='DetDataPreprocessor', mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], bgr_to_rgb=True
    ),
    backbone=dict(type='MobileNetV2', out_indices=(2, 4, 7), norm_cfg=norm),
    neck=dict(
        type='SSDNeck',
        in_channels=level_channels[:3],
        out_channels=level_channels,
        level_strides=(2,),
        level_paddings=(1,),
        l2_norm_scale=None,
        use_depthwise=True,
        norm_cfg=norm,
        act_cfg=dict(type='ReLU6'),
        init_cfg=dict(type='TruncNormal', layer='Conv2d', std=0.03),
    ),
    bbox_head=dict(
        type='SSDHead',
        in_channels=level_channels,
        num_classes=3,
        use_depthwise=True,
        norm_cfg=norm,
        act_cfg=dict(type='ReLU6'),
        init_cfg=dict(type='Normal', layer='Conv2d', std=0.001),
        anchor_generator=dict(
            type='SSDAnchorGenerator',
            scale_major=False,
            strides=[8, 16, 32, 64],
            ratios=[[2, 3], [2, 3], [2, 3], [2, 3]],
            min_sizes=[12, 28, 56, 96],
            max_sizes=[28, 56, 96, 160],
        ),
        bbox_coder=dict(
            type='DeltaXYWHBBoxCoder', target_means=[0.0, 0.0, 0.0, 0.0], target_stds=[0.1, 0.1, 0.2, 0.2]
        ),
    ),
    train_cfg=dict(
        assigner=dict(type='MaxIoUAssigner', pos_iou_thr=0.5, neg_iou_thr=0.5, min_pos_iou=0.0, ignore_iof_thr=-1,
                      gt_max_assign_all=False),
        sampler=dict(type='PseudoSampler'), smoothl1_beta=1.0, allowed_border=-1, pos_weight=-1, neg_pos_ratio=3,
        debug=False,
    ),
    test_cfg=dict(nms_pre=1000, nms=dict(type='nms', iou_threshold=0.45), score_thr=0.02, max_per_img=200),
)  # fmt: skip

train_cfg = dict(max_iters=max_iters, val_interval=max_iters)
optim_wrapper = dict(optimizer=dict(lr=0.001))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=50),
    dict(type='CosineAnnealingLR', by_epoch=False, begin=50, end=max_iters, eta_min=0),
]
default_hooks = dict(checkpoint=dict(interval=100))
