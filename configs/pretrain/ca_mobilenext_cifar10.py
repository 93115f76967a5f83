_base_ = ['./mobilenext_cifar10.py', '../_base_/attention/ca_ratio16.py']

# In all 18 blocks that have a last depthwise convolution: the paper's counts.
model = dict(backbone=dict(attention={{_base_.attention}}, attention_blocks='all'))
