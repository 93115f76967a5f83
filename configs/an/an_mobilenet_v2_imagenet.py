# Attentive Normalization (ECCV 2020): AN-MobileNetV2, ImageNet-1K, 150 epochs.
_base_ = [
    'mmpretrain::_base_/models/mobilenet_v2_1x.py',
    'mmpretrain::_base_/datasets/imagenet_bs32.py',
    '../_base_/schedules/imagenet_an.py',
    '../_base_/pretrain_runtime.py',
]

max_epochs = 150
model = dict(backbone=dict(_delete_=True, type='ANMobileNetV2', out_indices=(7,)))
train_dataloader = dict(batch_size=128)
optim_wrapper = dict(optimizer=dict(lr=0.2, weight_decay=0.00004))
warmup, cosine = _base_.param_scheduler
cosine.update(end=max_epochs, T_max=max_epochs - 5)
param_scheduler = [warmup, cosine]
train_cfg = dict(max_epochs=max_epochs)
