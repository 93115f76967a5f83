model = dict(
    type='ImageClassifier',
    backbone=dict(type='MobileNeXt', out_indices=(7,)),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(type='LinearClsHead', num_classes=1000, in_channels=1280, topk=(1, 5)),
)
