_base_ = '../pretrain/r50_cifar10.py'

model = dict(
    backbone=dict(
        _delete_=True,
        type='WithAttention',
        backbone={{_base_.model.backbone}},
        attention=dict(type='EAN', groups=64),
        shared='stage',
    )
)
