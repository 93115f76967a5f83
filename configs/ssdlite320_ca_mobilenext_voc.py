# Table 4: SSDLite320, CA-MobileNeXt, Pascal VOC: VOC2007 trainval and VOC2012 train, evaluated on VOC2012 val.
_base_ = ['./ssdlite320_mobilenext_voc.py', './_base_/attention/ca_ratio32.py']

model = dict(backbone=dict(attention={{_base_.attention}}))
