# Table 5: SSDLite320, CA-MobileNeXt, COCO 2017.
_base_ = './ssdlite320_mobilenext_coco.py'

model = dict(backbone=dict(attention=dict(type='CA', ratio=24)))
