_base_ = [
    'mmpretrain::_base_/models/resnet50_cifar.py',
    '../_base_/datasets/cifar100.py',
    '../_base_/schedules/cifar_200e.py',
    '../_base_/pretrain_runtime.py',
]

model = dict(backbone=dict(depth=101), head=dict(num_classes=100, topk=(1,)))
