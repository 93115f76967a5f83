# CIFAR-100 in data/cifar100: train/CLASS/*.jpg and test/CLASS/*.jpg, or the original binaries (downloaded if absent).
_base_ = 'mmpretrain::_base_/datasets/cifar100_bs16.py'

train_dataloader = dict(batch_size=128, persistent_workers=True, dataset=dict(type='CIFAR100FolderOrBinary'))
val_dataloader = dict(batch_size=250, persistent_workers=True, dataset=dict(type='CIFAR100FolderOrBinary'))
test_dataloader = val_dataloader
