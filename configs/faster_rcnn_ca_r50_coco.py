# Table 5: Faster R-CNN, CA-ResNet-50, COCO 2017.
_base_ = './faster_rcnn_r50_coco.py'

model = dict(backbone=dict(plugins=[dict(cfg=dict(type='CA', ratio=24), position='after_conv3')]))
