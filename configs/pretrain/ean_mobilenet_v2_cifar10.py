_base_ = ['./mobilenet_v2_cifar10.py', '../_base_/attention/ean_groups8.py']

model = dict(
    backbone=dict(
        _delete_=True, type='WithAttention', backbone={{_base_.model.backbone}}, attention={{_base_.attention}}
    )
)
