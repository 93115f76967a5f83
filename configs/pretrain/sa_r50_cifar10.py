_base_ = ['./r50_cifar10.py', '../_base_/attention/sa_groups64.py']

model = dict(
    backbone=dict(
        _delete_=True, type='WithAttention', backbone={{_base_.model.backbone}}, attention={{_base_.attention}}
    )
)
