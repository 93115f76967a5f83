_base_ = '../pretrain/se_mobilenext_cifar100.py'

model = dict(backbone=dict(shared='stage'))
