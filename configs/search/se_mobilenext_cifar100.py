_base_ = '../pretrain/se_mobilenext_cifar100.py'

model = dict(backbone=dict(attention_blocks='full', shared='stage'))
