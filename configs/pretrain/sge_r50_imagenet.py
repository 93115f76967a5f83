_base_ = './r50_imagenet.py'

model = dict(backbone=dict(plugins=[dict(cfg=dict(type='SGE', groups=64), position='after_conv3')]))
