_base_ = '../pretrain/mobilenext_cifar10.py'

model = dict(backbone=dict(type='EANMobileNeXt', groups=8, shared='stage'))
