# ELA (arXiv 2403.01123): ResNet-50 with ELA-B, ImageNet-1K.
_base_ = ['../pretrain/r50_imagenet.py', '../_base_/attention/ela_b.py']

model = dict(backbone=dict(plugins=[dict(cfg={{_base_.attention}}, position='after_conv3')]))
