_base_ = './r50_imagenet.py'

model = dict(backbone=dict(plugins=[dict(cfg=dict(type='CA', ratio=24), position='after_conv3')]))
