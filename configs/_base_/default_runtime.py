_base_ = 'mmdet::_base_/default_runtime.py'

custom_imports = dict(imports=['ean_mmdet'], allow_failed_imports=False)

# Iteration-based: 20 validations and checkpoints in a run; the best by mAP and the last three are kept.
default_hooks = dict(
    checkpoint=dict(
        type='AtomicCheckpointHook', by_epoch=False, interval=10000, max_keep_ckpts=3, save_best='auto', rule='greater'
    ),
    # validations at their iteration, not at epoch 0
    logger=dict(log_metric_by_epoch=False),
)
custom_hooks = [
    dict(type='SafeCheckpointHook'),
    dict(type='NumClassCheckHook'),
    dict(type='BatchNormCheckHook'),
]
log_processor = dict(by_epoch=False)
# A fixed seed, so that a resumed run goes on in the same data order.
randomness = dict(seed=0)
