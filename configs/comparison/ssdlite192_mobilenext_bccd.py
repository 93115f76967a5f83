# The detector of the comparison, plain: MobileNeXt SSDLite at 192 × 192 on BCCD, from scratch. Every other config here
# differs from it in the attention or the start of the backbone. See README.md.
_base_ = ['../_base_/models/ssdlite320_mobilenext.py', '../_base_/default_runtime.py']

data_root = 'data/BCCD/'
metainfo = dict(classes=('RBC', 'WBC', 'Platelets'), palette=[(220, 20, 60), (60, 90, 220), (250, 170, 30)])
input_size = (192, 192)
image_mean = [123.675, 116.28, 103.53]
max_iters = 600

# Levels of 24, 12, 6 and 3 cells a side: platelets are some 14 pixels wide.
level_channels = (288, 576, 1280, 256)
model = dict(
    backbone=dict(expansion_indices=(3, 5)),
    neck=dict(in_channels=level_channels[:3], out_channels=level_channels, level_strides=(2,), level_paddings=(1,)),
    bbox_head=dict(
        in_channels=level_channels,
        num_classes=3,
        anchor_generator=dict(
            strides=[8, 16, 32, 64],
            ratios=[[2, 3], [2, 3], [2, 3], [2, 3]],
            min_sizes=[12, 28, 56, 96],
            max_sizes=[28, 56, 96, 160],
        ),
    ),
)

train_dataloader = dict(
    batch_size=8,
    num_workers=1,
    persistent_workers=True,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=dict(
        type='VOCDataset',
        data_root=data_root,
        ann_file='ImageSets/Main/trainval.txt',
        data_prefix=dict(sub_data_root=''),
        metainfo=metainfo,
        # one box here has no width; unless it is left out, the loss is infinite
        filter_cfg=dict(filter_empty_gt=True, min_size=32, bbox_min_size=1),
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(type='LoadAnnotations', with_bbox=True),
            dict(type='Expand', mean=image_mean, to_rgb=True, ratio_range=(1, 2)),
            dict(type='MinIoURandomCrop', min_ious=(0.3, 0.5, 0.7, 0.9), min_crop_size=0.5),
            dict(type='Resize', scale=input_size, keep_ratio=False),
            dict(type='RandomFlip', prob=[0.3, 0.3], direction=['horizontal', 'vertical']),
            dict(type='PackDetInputs'),
        ],
    ),
)
val_dataloader = dict(
    batch_size=8,
    num_workers=1,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='VOCDataset',
        data_root=data_root,
        ann_file='ImageSets/Main/test.txt',
        data_prefix=dict(sub_data_root=''),
        metainfo=metainfo,
        test_mode=True,
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(type='Resize', scale=input_size, keep_ratio=False),
            dict(type='LoadAnnotations', with_bbox=True),
            dict(
                type='PackDetInputs',
                # the annotations themselves, which the COCO metric reads where there is no COCO file
                meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor', 'instances'),
            ),
        ],
    ),
)
test_dataloader = val_dataloader
val_evaluator = [
    dict(type='VOCMetric', metric='mAP', eval_mode='area'),
    dict(type='CocoMetric', metric='bbox', format_only=False),
]
test_evaluator = val_evaluator

train_cfg = dict(type='IterBasedTrainLoop', max_iters=max_iters, val_interval=max_iters // 4)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='AdamW', lr=0.002, weight_decay=0.05))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=50),
    dict(type='CosineAnnealingLR', by_epoch=False, begin=50, end=max_iters, eta_min=0),
]
# The last network is what counts: nothing is chosen on the test images.
default_hooks = dict(
    checkpoint=dict(_delete_=True, type='CheckpointHook', by_epoch=False, interval=max_iters // 4, max_keep_ckpts=1),
    logger=dict(interval=25),
)
custom_hooks = [*_base_.custom_hooks, dict(type='ChannelsLastHook')]
