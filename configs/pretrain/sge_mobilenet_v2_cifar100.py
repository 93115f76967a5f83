_base_ = ['./mobilenet_v2_cifar100.py', '../_base_/attention/sge_groups8.py']

model = dict(
    backbone=dict(
        _delete_=True, type='WithAttention', backbone={{_base_.model.backbone}}, attention={{_base_.attention}}
    )
)
