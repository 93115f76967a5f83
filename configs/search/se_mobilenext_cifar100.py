_base_ = '../pretrain/mobilenext_cifar100.py'

model = dict(backbone=dict(attention=dict(type='SE', ratio=16), shared='stage'))
