_base_ = ['./r50_imagenet.py', '../_base_/attention/pdfam.py']

model = dict(backbone=dict(plugins=[dict(cfg={{_base_.attention}}, position='after_conv3')]))
