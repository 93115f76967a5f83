# Table 5: Faster R-CNN, SE-ResNet-50, COCO 2017.
_base_ = './faster_rcnn_r50_coco.py'

model = dict(
    backbone=dict(
        plugins=[dict(cfg=dict(type='SE', ratio=16), position='after_conv3')],
        init_cfg=dict(_delete_=True, type='WarmStart', checkpoint='torchvision://resnet50', zero_init_gate=True),
    )
)
