_base_ = './mobilenext_imagenet.py'

model = dict(backbone=dict(type='EANMobileNeXt', groups=8))
