# Table 5: Faster R-CNN, CA-ResNet-50, COCO 2017. Ratio 20 adds the paper's 3.0 M parameters; its Table 3 has ratio 24.
_base_ = ['./faster_rcnn_r50_coco.py', './_base_/attention/ca_ratio20.py']

model = dict(
    backbone=dict(
        plugins=[dict(cfg={{_base_.attention}}, position='after_conv3')],
        init_cfg=dict(_delete_=True, type='WarmStart', checkpoint='torchvision://resnet50'),
    )
)
