# EAN added to the whole detector of ssdlite320_mobilenext_bccd.py so that it computes what it did, and trained on.
_base_ = '../own_data/ssdlite320_ean_mobilenext_bccd.py'

max_iters = 200

model = dict(
    init_cfg=dict(type='WarmStart', checkpoint='work_dirs/ssdlite320_mobilenext_bccd/iter_1500.pth'),
)
custom_hooks = [*_base_.custom_hooks, dict(type='ChannelsLastHook'), dict(type='ValidateFirstHook')]

train_cfg = dict(max_iters=max_iters, val_interval=50)
optim_wrapper = dict(optimizer=dict(lr=0.0002))
param_scheduler = [dict(type='CosineAnnealingLR', by_epoch=False, begin=0, end=max_iters, eta_min=0)]
default_hooks = dict(checkpoint=dict(interval=max_iters))
