# Attentive Normalization's, for ResNets: 120 epochs of batch 1024, 5 of them linear warm-up, cosine from lr 0.4.
_base_ = 'mmpretrain::_base_/schedules/imagenet_bs256.py'

max_epochs = 120
optim_wrapper = dict(optimizer=dict(lr=0.4))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=True, begin=0, end=5, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', by_epoch=True, begin=5, end=max_epochs, T_max=max_epochs - 5),
]
train_cfg = dict(max_epochs=max_epochs)
auto_scale_lr = dict(base_batch_size=1024)
