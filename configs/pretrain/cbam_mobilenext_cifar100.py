_base_ = ['./mobilenext_cifar100.py', '../_base_/attention/cbam_ratio16.py']

model = dict(backbone=dict(attention={{_base_.attention}}))
