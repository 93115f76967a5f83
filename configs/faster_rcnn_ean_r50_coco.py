# Table 5: Faster R-CNN, EAN-ResNet-50, COCO 2017.
_base_ = './faster_rcnn_r50_coco.py'

# The plain pretrained ResNet-50, and EAN added so that it computes what it did. A checkpoint that was pretrained with
# EAN goes in the same place and is loaded as it is: checkpoint='work_dirs/…/epoch_100.pth'
model = dict(
    backbone=dict(
        type='EANResNet',
        groups=64,
        init_cfg=dict(_delete_=True, type='WarmStart', checkpoint='torchvision://resnet50'),
    )
)
