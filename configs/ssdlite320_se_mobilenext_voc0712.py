# Table 4 by the common protocol: SSDLite320, SE-MobileNeXt, Pascal VOC: VOC2007 and VOC2012 trainval, evaluated on
# VOC2007 test.
_base_ = ['./ssdlite320_mobilenext_voc0712.py', './_base_/attention/se_ratio24.py']

model = dict(backbone=dict(attention={{_base_.attention}}))
