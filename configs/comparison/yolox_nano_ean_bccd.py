_base_ = './yolox_nano_bccd.py'

attention = dict(type='EAN', groups=8)
model = dict(backbone=dict(_delete_=True, type='WithAttention', backbone={{_base_.backbone}}, attention=attention))
