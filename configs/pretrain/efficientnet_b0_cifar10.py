_base_ = [
    'mmpretrain::_base_/models/efficientnet_b0.py',
    '../_base_/datasets/cifar10.py',
    '../_base_/schedules/cifar_200e.py',
    '../_base_/pretrain_runtime.py',
]

model = dict(head=dict(num_classes=10, topk=(1,)))
