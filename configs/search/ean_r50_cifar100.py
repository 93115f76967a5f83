_base_ = '../pretrain/ean_r50_cifar100.py'

model = dict(backbone=dict(shared='stage'))
