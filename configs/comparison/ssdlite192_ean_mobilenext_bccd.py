_base_ = './ssdlite192_mobilenext_bccd.py'

model = dict(backbone=dict(type='EANMobileNeXt', groups=8))
