# Where the schedule of mobilenext_cifar10.py is chosen: every tenth training image is left out, and judges.
_base_ = './mobilenext_cifar10.py'

train_dataloader = dict(dataset=dict(indices=[i for i in range(50000) if i % 10]))
val_dataloader = dict(dataset=dict(split='train', indices=list(range(0, 50000, 10))))
test_dataloader = val_dataloader
randomness = dict(seed=100)
