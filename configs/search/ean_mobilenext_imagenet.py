_base_ = '../pretrain/mobilenext_imagenet.py'

model = dict(backbone=dict(type='EANMobileNeXt', groups=8, shared='stage'))
