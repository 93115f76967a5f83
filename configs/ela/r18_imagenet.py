# ResNet-18, ImageNet-1K.
_base_ = '../pretrain/r50_imagenet.py'

model = dict(backbone=dict(depth=18), head=dict(in_channels=512))
