# Table 5: Faster R-CNN, SE-ResNet-50, COCO 2017.
_base_ = ['./faster_rcnn_r50_coco.py', './_base_/attention/se_ratio16.py']

model = dict(
    backbone=dict(
        plugins=[dict(cfg={{_base_.attention}}, position='after_conv3')],
        init_cfg=dict(_delete_=True, type='WarmStart', checkpoint='torchvision://resnet50'),
    )
)
