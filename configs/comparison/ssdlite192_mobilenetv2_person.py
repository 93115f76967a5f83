# The same detector for the people of 80 images of COCO, judged on 79 others.
_base_ = './ssdlite192_mobilenetv2_bccd.py'

data_root = 'data/coco_mini/'
people = dict(_delete_=True, type='CocoDataset', data_root=data_root, metainfo=dict(classes=('person',)))
model = dict(
    bbox_head=dict(
        num_classes=1, anchor_generator=dict(min_sizes=[16, 40, 80, 128], max_sizes=[40, 80, 128, 192])
    )
)  # fmt: skip
train_dataloader = dict(
    dataset=dict(
        **people,
        ann_file='annotations/instances_train2017.json',
        data_prefix=dict(img='train2017/'),
        filter_cfg=dict(filter_empty_gt=True),
        pipeline=_base_.train_dataloader.dataset.pipeline,
    )
)
val_dataloader = dict(
    dataset=dict(
        **people,
        ann_file='annotations/instances_val2017.json',
        data_prefix=dict(img='val2017/'),
        test_mode=True,
        pipeline=_base_.val_dataloader.dataset.pipeline,
    )
)
test_dataloader = val_dataloader
val_evaluator = dict(
    _delete_=True, type='CocoMetric', metric='bbox', ann_file=data_root + 'annotations/instances_val2017.json'
)
test_evaluator = val_evaluator
