_base_ = ['./wrn28_10_cifar100.py', '../_base_/attention/se_ratio8.py']

model = dict(
    backbone=dict(
        _delete_=True, type='WithAttention', backbone={{_base_.model.backbone}}, attention={{_base_.attention}}
    )
)
