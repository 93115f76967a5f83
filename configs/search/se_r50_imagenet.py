_base_ = [
    '../_base_/models/resnet50_cls.py',
    '../_base_/attention/se_ratio16.py',
    'mmpretrain::_base_/datasets/imagenet_bs32.py',
    '../_base_/schedules/imagenet_120e.py',
    '../_base_/pretrain_runtime.py',
]

model = dict(
    backbone=dict(
        _delete_=True,
        type='WithAttention',
        backbone={{_base_.model.backbone}},
        attention={{_base_.attention}},
        shared='stage',
    )
)
