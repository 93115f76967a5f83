# The control of ean_mobilenext_cifar10.py: EANs that stay at their start, y = x / 2. What halving alone does.
_base_ = './ean_mobilenext_cifar10.py'

frozen = dict(lr_mult=0.0, decay_mult=0.0)
optim_wrapper = dict(paramwise_cfg=dict(custom_keys={'attention.': frozen}))
