# Attentive Normalization (ECCV 2020): AN-ResNet-50, ImageNet-1K.
_base_ = [
    '../_base_/models/resnet50_cls.py',
    'mmpretrain::_base_/datasets/imagenet_bs32.py',
    '../_base_/schedules/imagenet_an.py',
    '../_base_/pretrain_runtime.py',
]

# The last norm of every block starts at zero.
model = dict(backbone=dict(type='ANResNet', zero_init_residual=True))
train_dataloader = dict(batch_size=128)
