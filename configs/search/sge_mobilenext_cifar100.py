_base_ = '../pretrain/mobilenext_cifar100.py'

model = dict(backbone=dict(attention=dict(type='SGE', groups=8), shared='stage'))
