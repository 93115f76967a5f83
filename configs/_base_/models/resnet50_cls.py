# MMDetection's ResNet, so that detectors take the checkpoint key by key; its norms learn here.
_base_ = 'mmpretrain::_base_/models/resnet50.py'

model = dict(
    backbone=dict(
        _delete_=True, type='mmdet.ResNet', depth=50, out_indices=(3,), norm_eval=False, zero_init_residual=False
    )
)
