_base_ = [
    '../_base_/models/shufflenet_v2_cifar.py',
    '../_base_/datasets/cifar10.py',
    '../_base_/schedules/cifar_200e.py',
    '../_base_/pretrain_runtime.py',
]

model = dict(head=dict(num_classes=10, topk=(1,)))
