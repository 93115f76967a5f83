# The classifier of the search for connections, plain: half the paper's width, 2 epochs. See README.md.
_base_ = './mobilenext_cifar10.py'

max_epochs = 2
model = dict(backbone=dict(widen_factor=0.5, last_channels=640), head=dict(in_channels=640))
train_cfg = dict(max_epochs=max_epochs)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=200),
    dict(type='CosineAnnealingLR', begin=0, end=max_epochs, by_epoch=True, convert_to_iter_based=True, eta_min=0),
]
