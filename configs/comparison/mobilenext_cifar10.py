# The classifier of the comparison, plain: the paper's MobileNeXt on CIFAR-10, 3 epochs of one cosine with a warm-up of
# 200 iterations. Every other cifar10 config here differs from it in the attention alone. See README.md.
_base_ = '../pretrain/mobilenext_cifar10.py'

max_epochs = 3
train_dataloader = dict(num_workers=1)
val_dataloader = dict(num_workers=1)
test_dataloader = val_dataloader
train_cfg = dict(max_epochs=max_epochs)
optim_wrapper = dict(optimizer=dict(lr=0.02))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=200),
    dict(type='CosineAnnealingLR', begin=0, end=max_epochs, by_epoch=True, convert_to_iter_based=True, eta_min=0),
]
# The last network is what counts: nothing is chosen on the test images.
default_hooks = dict(
    checkpoint=dict(_delete_=True, type='AtomicCheckpointHook', interval=1, max_keep_ckpts=1), logger=dict(interval=50)
)
