# Pascal VOC for SSDLite320 as in the paper's Table 4: trained on VOC2007 trainval and VOC2012 train, evaluated on
# VOC2012 val. 4 images a GPU, 32 on 8.
_base_ = './ssdlite320_pipeline.py'

data_root = 'data/VOCdevkit/'
filter_cfg = dict(filter_empty_gt=True, min_size=32, bbox_min_size=32)

train_dataloader = dict(
    batch_size=4,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=dict(
        type='ConcatDataset',
        # the two years name themselves in their metainfo, which would not compare equal
        ignore_keys=['dataset_type'],
        datasets=[
            dict(
                type='VOCDataset',
                data_root=data_root,
                ann_file='VOC2007/ImageSets/Main/trainval.txt',
                data_prefix=dict(sub_data_root='VOC2007/'),
                filter_cfg=filter_cfg,
                pipeline={{_base_.train_pipeline}},
            ),
            dict(
                type='VOCDataset',
                data_root=data_root,
                ann_file='VOC2012/ImageSets/Main/train.txt',
                data_prefix=dict(sub_data_root='VOC2012/'),
                filter_cfg=filter_cfg,
                pipeline={{_base_.train_pipeline}},
            ),
        ],
    ),
)
val_dataloader = dict(
    batch_size=8,
    num_workers=4,
    persistent_workers=True,
    drop_last=False,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='VOCDataset',
        data_root=data_root,
        ann_file='VOC2012/ImageSets/Main/val.txt',
        data_prefix=dict(sub_data_root='VOC2012/'),
        test_mode=True,
        pipeline={{_base_.test_pipeline}},
    ),
)
test_dataloader = val_dataloader

# VOC2012's average precision is the area under the curve; VOC2007's the mean at 11 recalls.
val_evaluator = dict(type='VOCMetric', metric='mAP', eval_mode='area')
test_evaluator = val_evaluator
