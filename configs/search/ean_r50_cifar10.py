_base_ = '../pretrain/ean_r50_cifar10.py'

model = dict(backbone=dict(shared='stage'))
