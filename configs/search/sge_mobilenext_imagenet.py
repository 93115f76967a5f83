_base_ = '../pretrain/sge_mobilenext_imagenet.py'

model = dict(backbone=dict(shared='stage'))
