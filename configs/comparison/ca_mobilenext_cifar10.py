_base_ = './mobilenext_cifar10.py'

model = dict(backbone=dict(attention=dict(type='CA', ratio=24)))
