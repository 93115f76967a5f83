# Table 5: SSDLite320, EAN-MobileNeXt, COCO 2017.
_base_ = './ssdlite320_mobilenext_coco.py'

# From scratch; docs/pretraining.md starts from a MobileNeXt that was pretrained.
model = dict(backbone=dict(type='EANMobileNeXt', groups=8))
