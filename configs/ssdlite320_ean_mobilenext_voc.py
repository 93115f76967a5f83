# Table 4: SSDLite320, EAN-MobileNeXt, Pascal VOC: VOC2007 trainval and VOC2012 train, evaluated on VOC2012 val.
_base_ = './ssdlite320_mobilenext_voc.py'

# From scratch; docs/pretraining.md starts from a MobileNeXt that was pretrained.
model = dict(backbone=dict(type='EANMobileNeXt', groups=8))
