_base_ = './mobilenext_cifar100.py'

model = dict(backbone=dict(attention=dict(type='CA', ratio=16)))
