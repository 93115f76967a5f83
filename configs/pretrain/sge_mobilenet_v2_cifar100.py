_base_ = ['./mobilenet_v2_cifar100.py', '../_base_/attention/sge_groups8.py']

model = dict(
    backbone=dict(
        _delete_=True,
        type='WithAttention',
        backbone={{_base_.model.backbone}},
        attention={{_base_.attention}},
        # the expanding convolutions' norms: the place that the paper's counts fit
        after=r'layer[2-7]\.\d\.conv\.0\.bn',
    )
)
