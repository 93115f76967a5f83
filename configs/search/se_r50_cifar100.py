_base_ = '../pretrain/r50_cifar100.py'

model = dict(
    backbone=dict(
        _delete_=True,
        type='WithAttention',
        backbone={{_base_.model.backbone}},
        attention=dict(type='SE', ratio=16),
        shared='stage',
    )
)
