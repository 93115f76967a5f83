_base_ = '../pretrain/mobilenext_cifar100.py'

model = dict(backbone=dict(type='EANMobileNeXt', groups=8, shared='stage'))
