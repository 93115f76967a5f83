_base_ = './narrow_mobilenext_cifar10.py'

model = dict(backbone=dict(attention=dict(type='SE', ratio=16)))
