# YOLOX-nano, Pascal VOC: VOC2007 and VOC2012 trainval, evaluated on VOC2007 test.
_base_ = 'mmdet::yolox/yolox_nano_8xb8-300e_coco.py'

custom_imports = dict(imports=['ean_mmdet'], allow_failed_imports=False)
custom_hooks = [dict(type='SafeCheckpointHook'), *_base_.custom_hooks]

data_root = 'data/VOCdevkit/'
load_pipeline = [dict(type='LoadImageFromFile'), dict(type='LoadAnnotations', with_bbox=True)]
train_dataloader = dict(
    dataset=dict(
        dataset=dict(
            _delete_=True,
            type='ConcatDataset',
            # the two years name themselves in their metainfo, which would not compare equal
            ignore_keys=['dataset_type'],
            datasets=[
                dict(
                    type='VOCDataset',
                    data_root=data_root,
                    ann_file=f'VOC{year}/ImageSets/Main/trainval.txt',
                    data_prefix=dict(sub_data_root=f'VOC{year}/'),
                    filter_cfg=dict(filter_empty_gt=False, min_size=32),
                    pipeline=load_pipeline,
                )
                for year in (2007, 2012)
            ],
        )
    )
)
val_dataloader = dict(
    dataset=dict(
        type='VOCDataset',
        data_root=data_root,
        ann_file='VOC2007/ImageSets/Main/test.txt',
        data_prefix=dict(_delete_=True, sub_data_root='VOC2007/'),
    )
)
test_dataloader = val_dataloader

val_evaluator = dict(_delete_=True, type='VOCMetric', metric='mAP', eval_mode='11points')
test_evaluator = val_evaluator

model = dict(bbox_head=dict(num_classes=20))
default_hooks = dict(checkpoint=dict(save_best='auto', rule='greater'))
