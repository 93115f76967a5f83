_base_ = './r50_imagenet.py'

model = dict(backbone=dict(plugins=[dict(cfg=dict(type='PdfAM'), position='after_conv3')]))
