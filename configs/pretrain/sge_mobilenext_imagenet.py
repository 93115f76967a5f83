_base_ = './mobilenext_imagenet.py'

model = dict(backbone=dict(attention=dict(type='SGE', groups=8)))
