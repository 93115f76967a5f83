_base_ = [
    '../_base_/models/wrn28_10_cifar.py',
    '../_base_/datasets/cifar100.py',
    '../_base_/schedules/cifar_200e.py',
    '../_base_/pretrain_runtime.py',
]

model = dict(head=dict(num_classes=100, topk=(1,)))
