_base_ = '../pretrain/se_mobilenext_imagenet.py'

model = dict(backbone=dict(shared='stage'))
