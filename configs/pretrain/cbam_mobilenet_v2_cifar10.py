_base_ = './mobilenet_v2_cifar10.py'

model = dict(
    backbone=dict(
        _delete_=True,
        type='WithAttention',
        backbone=dict(type='mmpretrain.MobileNetV2'),
        attention=dict(type='CBAM', ratio=16),
        # the expanding convolutions' norms: the place that the paper's counts fit
        after=r'layer[2-7]\.\d\.conv\.0\.bn',
    )
)
