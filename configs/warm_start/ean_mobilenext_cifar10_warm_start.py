# EAN added to a trained plain MobileNeXt so that it computes what it did, and trained on.
_base_ = '../pretrain/ean_mobilenext_cifar10.py'

epochs = 2

model = dict(
    init_cfg=dict(type='WarmStart', checkpoint='work_dirs/cifar10_12e/mobilenext_cifar10/epoch_12.pth'),
)
custom_hooks = [*_base_.custom_hooks, dict(type='ValidateFirstHook')]

train_cfg = dict(max_epochs=epochs)
optim_wrapper = dict(optimizer=dict(lr=0.01))
param_scheduler = dict(
    _delete_=True, type='CosineAnnealingLR', by_epoch=True, T_max=epochs, eta_min=0, convert_to_iter_based=True
)
