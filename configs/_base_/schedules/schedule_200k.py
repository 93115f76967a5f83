# The paper's detection schedule: 200,000 iterations of SGD, 500 of linear warm-up, lr ÷ 10 at 120,000 and 180,000.
train_cfg = dict(type='IterBasedTrainLoop', max_iters=200000, val_interval=10000)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')

param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=500),
    dict(type='MultiStepLR', by_epoch=False, begin=0, end=200000, milestones=[120000, 180000], gamma=0.1),
]

optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=0.01, momentum=0.9, weight_decay=0.0001))

# The total batch that the learning rate is for: 8 GPUs × 2 images. --auto-scale-lr scales the rate to yours.
auto_scale_lr = dict(enable=False, base_batch_size=16)
