# One's own data in VOC format: blood cells (BCCD), three classes, 292 images to train on and 72 to test on.
# Written by hand; docs/own_data.md has it beside what tools/new_config.py writes.
_base_ = '../ssdlite320_ean_mobilenext_voc.py'

data_root = 'data/BCCD/'
metainfo = dict(classes=('RBC', 'WBC', 'Platelets'), palette=[(220, 20, 60), (60, 90, 220), (250, 170, 30)])

train_dataloader = dict(
    batch_size=8,
    num_workers=2,
    dataset=dict(
        _delete_=True,
        type='VOCDataset',
        data_root=data_root,
        ann_file='ImageSets/Main/trainval.txt',
        data_prefix=dict(sub_data_root=''),
        metainfo=metainfo,
        # one box here has no width; unless it is left out, the loss is infinite
        filter_cfg=dict(filter_empty_gt=True, min_size=32, bbox_min_size=1),
        pipeline={{_base_.train_pipeline}},
    ),
)
val_dataloader = dict(
    num_workers=2,
    dataset=dict(
        data_root=data_root,
        ann_file='ImageSets/Main/test.txt',
        data_prefix=dict(sub_data_root=''),
        metainfo=metainfo,
    ),
)
test_dataloader = val_dataloader

model = dict(
    bbox_head=dict(
        num_classes=3,
        # Platelets are some 20 pixels wide at 320 × 320: a row of smaller anchors than COCO's.
        anchor_generator=dict(min_sizes=[20, 48, 100, 150, 202, 253], max_sizes=[48, 100, 150, 202, 253, 304]),
    )
)

# From scratch on few images: a short schedule with an optimizer that doesn't need a long one.
train_cfg = dict(max_iters=1500, val_interval=500)
optim_wrapper = dict(optimizer=dict(_delete_=True, type='AdamW', lr=0.001, weight_decay=0.05))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=100),
    dict(type='CosineAnnealingLR', by_epoch=False, begin=100, end=1500, eta_min=0),
]
default_hooks = dict(checkpoint=dict(interval=500), logger=dict(interval=25))
auto_scale_lr = dict(base_batch_size=8)
