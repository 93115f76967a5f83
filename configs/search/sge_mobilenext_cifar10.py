_base_ = '../pretrain/sge_mobilenext_cifar10.py'

model = dict(backbone=dict(shared='stage'))
