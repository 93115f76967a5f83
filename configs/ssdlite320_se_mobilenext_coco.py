# Table 5: SSDLite320, SE-MobileNeXt, COCO 2017.
_base_ = './ssdlite320_mobilenext_coco.py'

model = dict(backbone=dict(attention=dict(type='SE', ratio=16)))
