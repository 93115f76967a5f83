_base_ = 'mmpretrain::_base_/default_runtime.py'

custom_imports = dict(
    imports=['ean_mmdet', 'ean_mmdet.backbones.cifar', 'ean_mmdet.datasets.cifar'], allow_failed_imports=False
)

# The best and the last two checkpoints are kept.
default_hooks = dict(checkpoint=dict(type='AtomicCheckpointHook', max_keep_ckpts=2, save_best='auto', rule='greater'))
custom_hooks = [dict(type='SafeCheckpointHook'), dict(type='BatchNormCheckHook'), dict(type='ChannelsLastHook')]
# A fixed seed, so that a resumed run goes on in the same data order.
randomness = dict(seed=0)
