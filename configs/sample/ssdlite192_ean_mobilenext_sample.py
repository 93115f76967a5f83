# Half-width EAN-MobileNeXt SSDLite at 192 × 192 on the generated sample data set.
_base_ = ['../_base_/models/ssdlite320_mobilenext.py', '../_base_/default_runtime.py']

data_root = 'data/sample/'
metainfo = dict(
    classes=('circle', 'square', 'triangle', 'star', 'cross'),
    palette=[(230, 60, 60), (60, 110, 230), (60, 180, 90), (240, 170, 30), (160, 80, 200)],
)
input_size = (192, 192)
max_iters = 320

# The expansions of the first blocks with strides 16 and 32, the last block, and one level of the neck's: 24, 12, 6
# and 3 cells a side. A network trained from scratch learns sooner on its shallower features.
level_channels = (144, 288, 640, 256)
model = dict(
    backbone=dict(type='EANMobileNeXt', groups=8, widen_factor=0.5, last_channels=640, expansion_indices=(3, 5)),
    neck=dict(in_channels=level_channels[:3], out_channels=level_channels, level_strides=(2,), level_paddings=(1,)),
    bbox_head=dict(
        in_channels=level_channels,
        num_classes=5,
        anchor_generator=dict(
            strides=[8, 16, 32, 64],
            ratios=[[2, 3], [2, 3], [2, 3], [2, 3]],
            min_sizes=[26, 48, 80, 112],
            max_sizes=[48, 80, 112, 144],
        ),
    ),
)

train_dataloader = dict(
    batch_size=16,
    num_workers=1,
    persistent_workers=True,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=dict(
        type='CocoDataset',
        data_root=data_root,
        ann_file='annotations/instances_train.json',
        data_prefix=dict(img='JPEGImages/'),
        metainfo=metainfo,
        filter_cfg=dict(filter_empty_gt=True),
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(type='LoadAnnotations', with_bbox=True),
            dict(type='Resize', scale=input_size, keep_ratio=False),
            dict(type='RandomFlip', prob=[0.3, 0.3], direction=['horizontal', 'vertical']),
            dict(type='PackDetInputs'),
        ],
    ),
)
val_dataloader = dict(
    batch_size=16,
    num_workers=1,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='CocoDataset',
        data_root=data_root,
        ann_file='annotations/instances_val.json',
        data_prefix=dict(img='JPEGImages/'),
        metainfo=metainfo,
        test_mode=True,
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(type='Resize', scale=input_size, keep_ratio=False),
            dict(type='LoadAnnotations', with_bbox=True),
            dict(type='PackDetInputs', meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor')),
        ],
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(type='CocoMetric', ann_file=data_root + 'annotations/instances_val.json', metric='bbox')
test_evaluator = val_evaluator

train_cfg = dict(type='IterBasedTrainLoop', max_iters=max_iters, val_interval=max_iters)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='AdamW', lr=0.002, weight_decay=0.02))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=50),
    dict(type='CosineAnnealingLR', by_epoch=False, begin=50, end=max_iters, eta_min=0),
]
auto_scale_lr = dict(enable=False, base_batch_size=16)
default_hooks = dict(checkpoint=dict(interval=max_iters), logger=dict(interval=25))
