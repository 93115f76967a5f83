_base_ = ['./mobilenext_cifar10.py', '../_base_/attention/sge_groups8.py']

model = dict(backbone=dict(attention={{_base_.attention}}))
