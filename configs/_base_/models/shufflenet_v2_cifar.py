model = dict(
    type='ImageClassifier',
    backbone=dict(type='CIFARShuffleNetV2', widen_factor=1.0),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(type='LinearClsHead', num_classes=100, in_channels=1024),
)
