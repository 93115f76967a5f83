_base_ = ['./r50_imagenet.py', '../_base_/attention/sge_groups64.py']

model = dict(backbone=dict(plugins=[dict(cfg={{_base_.attention}}, position='after_conv3')]))
