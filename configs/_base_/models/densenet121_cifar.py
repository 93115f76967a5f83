model = dict(
    type='ImageClassifier',
    backbone=dict(type='CIFARDenseNet', arch='121'),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(type='LinearClsHead', num_classes=100, in_channels=1024),
)
