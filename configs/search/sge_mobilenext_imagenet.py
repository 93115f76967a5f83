_base_ = '../pretrain/mobilenext_imagenet.py'

model = dict(backbone=dict(attention=dict(type='SGE', groups=8), shared='stage'))
