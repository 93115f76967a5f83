_base_ = './ssdlite192_mobilenext_bccd.py'

model = dict(backbone=dict(attention=dict(type='SE', ratio=16)))
