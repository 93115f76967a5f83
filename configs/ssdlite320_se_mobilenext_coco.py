# Table 5: SSDLite320, SE-MobileNeXt, COCO 2017.
_base_ = ['./ssdlite320_mobilenext_coco.py', './_base_/attention/se_ratio24.py']

model = dict(backbone=dict(attention={{_base_.attention}}))
