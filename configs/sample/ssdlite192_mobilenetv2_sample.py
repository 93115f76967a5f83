# A detector of MMDetection's parts, without attention, on the generated sample data set: the one to which
# docs/own_detector.ipynb adds attention.
_base_ = './ssdlite192_ean_mobilenext_sample.py'

level_channels = (32, 96, 320, 256)
model = dict(
    backbone=dict(
        _delete_=True,
        type='MobileNetV2',
        out_indices=(2, 4, 6),
        norm_cfg=dict(type='BN', eps=0.001, momentum=0.03),
    ),
    neck=dict(in_channels=level_channels[:3], out_channels=level_channels),
    bbox_head=dict(in_channels=level_channels),
)
