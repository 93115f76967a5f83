_base_ = '../pretrain/ean_mobilenext_cifar10.py'

model = dict(backbone=dict(shared='stage'))
