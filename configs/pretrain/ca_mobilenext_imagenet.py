_base_ = ['./mobilenext_imagenet.py', '../_base_/attention/ca_ratio24.py']

model = dict(backbone=dict(attention={{_base_.attention}}))
