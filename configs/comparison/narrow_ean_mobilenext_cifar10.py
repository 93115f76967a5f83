_base_ = './narrow_mobilenext_cifar10.py'

model = dict(backbone=dict(type='EANMobileNeXt', groups=8))
