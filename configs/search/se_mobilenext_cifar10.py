_base_ = '../pretrain/se_mobilenext_cifar10.py'

model = dict(backbone=dict(shared='stage'))
