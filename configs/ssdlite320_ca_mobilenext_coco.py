# Table 5: SSDLite320, CA-MobileNeXt, COCO 2017.
_base_ = ['./ssdlite320_mobilenext_coco.py', './_base_/attention/ca_ratio32.py']

model = dict(backbone=dict(attention={{_base_.attention}}))
