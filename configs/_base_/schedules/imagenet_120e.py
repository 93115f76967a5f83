# That of 'Accelerate Attention by Searching Where to Plug': 120 epochs of batch 256, lr 0.1 divided by 10 every 30.
_base_ = 'mmpretrain::_base_/schedules/imagenet_bs256.py'

param_scheduler = dict(milestones=[30, 60, 90])
train_cfg = dict(max_epochs=120)
