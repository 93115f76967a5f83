# Table 5: Faster R-CNN, EAN-ResNet-50, COCO 2017.
_base_ = './faster_rcnn_r50_coco.py'

model = dict(backbone=dict(type='EANResNet', groups=64))
