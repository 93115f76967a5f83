# ELA (arXiv 2403.01123): ResNet-18 with ELA-B, ImageNet-1K.
_base_ = ['./r18_imagenet.py', '../_base_/attention/ela_b.py']

model = dict(
    backbone=dict(
        _delete_=True, type='WithAttention', backbone={{_base_.model.backbone}}, attention={{_base_.attention}}
    )
)
