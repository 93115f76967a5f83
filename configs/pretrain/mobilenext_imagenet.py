_base_ = [
    '../_base_/models/mobilenext_cls.py',
    'mmpretrain::_base_/datasets/imagenet_bs32.py',
    '../_base_/schedules/imagenet_cosine.py',
    '../_base_/pretrain_runtime.py',
]
