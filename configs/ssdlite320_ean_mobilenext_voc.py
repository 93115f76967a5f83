# Table 4: SSDLite320, EAN-MobileNeXt, Pascal VOC: VOC2007 trainval and VOC2012 train, evaluated on VOC2012 val.
_base_ = './ssdlite320_mobilenext_voc.py'

# From scratch. From a MobileNeXt pretrained on ImageNet, plain or with EAN:
# backbone=dict(…, init_cfg=dict(_delete_=True, type='WarmStart', checkpoint='…'))
model = dict(backbone=dict(type='EANMobileNeXt', groups=8))
