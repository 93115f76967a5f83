_base_ = ['./mobilenext_cifar100.py', '../_base_/attention/se_ratio16.py']

model = dict(backbone=dict(attention={{_base_.attention}}))
