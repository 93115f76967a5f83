_base_ = ['./mobilenext_imagenet.py', '../_base_/attention/ca_ratio16.py']

# After the first depthwise convolution: the paper's counts.
model = dict(backbone=dict(attention={{_base_.attention}}, attention_at='first'))
