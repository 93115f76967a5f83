# ELA (arXiv 2403.01123): MobileNetV2 with ELA-B, ImageNet-1K.
_base_ = ['../pretrain/mobilenet_v2_imagenet.py', '../_base_/attention/ela_b.py']

model = dict(
    backbone=dict(
        _delete_=True, type='WithAttention', backbone={{_base_.model.backbone}}, attention={{_base_.attention}}
    )
)
