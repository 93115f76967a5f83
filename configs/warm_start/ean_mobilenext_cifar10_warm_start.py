# EAN added to the MobileNeXt of mobilenext_cifar10.py so that it computes what it did, and trained on.
_base_ = './mobilenext_cifar10.py'

epochs = 4

model = dict(
    backbone=dict(type='EANMobileNeXt', groups=8),
    init_cfg=dict(type='WarmStart', checkpoint='work_dirs/mobilenext_cifar10/epoch_6.pth'),
)
custom_hooks = [*_base_.custom_hooks, dict(type='ValidateFirstHook')]

train_cfg = dict(max_epochs=epochs)
optim_wrapper = dict(optimizer=dict(lr=0.01))
param_scheduler = [
    dict(type='CosineAnnealingLR', by_epoch=True, begin=0, end=epochs, eta_min=0, convert_to_iter_based=True)
]
