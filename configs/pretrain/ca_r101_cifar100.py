_base_ = './r101_cifar100.py'

model = dict(
    backbone=dict(
        _delete_=True, type='WithAttention', backbone={{_base_.model.backbone}}, attention=dict(type='CA', ratio=16)
    )
)
