_base_ = './r50_imagenet.py'

model = dict(backbone=dict(plugins=[dict(cfg=dict(type='CBAM', ratio=16), position='after_conv3')]))
