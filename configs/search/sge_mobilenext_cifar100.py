_base_ = '../pretrain/sge_mobilenext_cifar100.py'

model = dict(backbone=dict(shared='stage'))
