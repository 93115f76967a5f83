# YOLOX-nano of the comparison, plain, at 192 × 192 on BCCD, from scratch: the model is that of MMDetection, data,
# augmentation and schedule are those of the SSDLite. The others differ in the attention. See README.md.
_base_ = './ssdlite192_mobilenext_bccd.py'

norm = dict(type='BN', momentum=0.03, eps=0.001)
backbone = dict(
    type='CSPDarknet', deepen_factor=0.33, widen_factor=0.25, use_depthwise=True, out_indices=(2, 3, 4), norm_cfg=norm
)
model = dict(
    _delete_=True,
    type='YOLOX',
    data_preprocessor=dict(type='DetDataPreprocessor', pad_size_divisor=32),
    backbone=backbone,
    neck=dict(
        type='YOLOXPAFPN',
        in_channels=[64, 128, 256],
        out_channels=64,
        num_csp_blocks=1,
        use_depthwise=True,
        norm_cfg=norm,
        act_cfg=dict(type='Swish'),
    ),
    bbox_head=dict(
        type='YOLOXHead',
        num_classes=3,
        in_channels=64,
        feat_channels=64,
        use_depthwise=True,
        norm_cfg=norm,
        act_cfg=dict(type='Swish'),
    ),
    train_cfg=dict(assigner=dict(type='SimOTAAssigner', center_radius=2.5)),
    test_cfg=dict(score_thr=0.01, nms=dict(type='nms', iou_threshold=0.65)),
)
optim_wrapper = dict(optimizer=dict(lr=0.008))
