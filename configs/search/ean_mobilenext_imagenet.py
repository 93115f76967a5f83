_base_ = '../pretrain/ean_mobilenext_imagenet.py'

model = dict(backbone=dict(shared='stage'))
