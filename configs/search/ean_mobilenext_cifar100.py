_base_ = '../pretrain/ean_mobilenext_cifar100.py'

model = dict(backbone=dict(shared='stage'))
