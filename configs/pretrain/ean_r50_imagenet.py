_base_ = './r50_imagenet.py'

model = dict(backbone=dict(type='EANResNet', groups=64))
