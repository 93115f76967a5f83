model = dict(
    type='ImageClassifier',
    backbone=dict(type='CIFARResNeXt', depth=29, groups=16, width_per_group=32),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(type='LinearClsHead', num_classes=100, in_channels=1024),
)
