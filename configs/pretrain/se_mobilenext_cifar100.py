_base_ = './mobilenext_cifar100.py'

model = dict(backbone=dict(attention=dict(type='SE', ratio=16)))
