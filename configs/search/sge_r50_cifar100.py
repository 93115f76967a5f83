_base_ = ['../pretrain/r50_cifar100.py', '../_base_/attention/sge_groups64.py']

model = dict(
    backbone=dict(
        _delete_=True,
        type='WithAttention',
        backbone={{_base_.model.backbone}},
        attention={{_base_.attention}},
        shared='stage',
    )
)
