_base_ = ['./mobilenext_cifar100.py', '../_base_/attention/sge_groups8.py']

model = dict(backbone=dict(attention={{_base_.attention}}))
