# Table 5: SSDLite320, EAN-MobileNeXt, COCO 2017.
_base_ = './ssdlite320_mobilenext_coco.py'

# From scratch. From a MobileNeXt pretrained on ImageNet, plain or with EAN:
# backbone=dict(…, init_cfg=dict(_delete_=True, type='WarmStart', checkpoint='…'))
model = dict(backbone=dict(type='EANMobileNeXt', groups=8))
