# CIFAR-10 in data/cifar10: train/CLASS/*.jpg and test/CLASS/*.jpg, or the original binaries (downloaded if absent).
_base_ = 'mmpretrain::_base_/datasets/cifar10_bs16.py'

train_dataloader = dict(batch_size=128, persistent_workers=True, dataset=dict(type='CIFAR10FolderOrBinary'))
val_dataloader = dict(batch_size=250, persistent_workers=True, dataset=dict(type='CIFAR10FolderOrBinary'))
test_dataloader = val_dataloader
