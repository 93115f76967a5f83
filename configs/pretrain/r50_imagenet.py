_base_ = [
    '../_base_/models/resnet50_cls.py',
    'mmpretrain::_base_/datasets/imagenet_bs32.py',
    'mmpretrain::_base_/schedules/imagenet_bs256.py',
    '../_base_/pretrain_runtime.py',
]
