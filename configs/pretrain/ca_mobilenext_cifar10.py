_base_ = ['./mobilenext_cifar10.py', '../_base_/attention/ca_ratio16.py']

model = dict(backbone=dict(attention={{_base_.attention}}))
