# The paper's: 200 epochs, lr 0.05 divided by 10 at 100 and 150.
_base_ = 'mmpretrain::_base_/schedules/cifar10_bs128.py'

optim_wrapper = dict(optimizer=dict(lr=0.05, weight_decay=0.0005))
