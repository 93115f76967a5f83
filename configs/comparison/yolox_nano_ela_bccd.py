_base_ = './yolox_nano_bccd.py'

attention = dict(type='ELA', variant='B')
model = dict(backbone=dict(_delete_=True, type='WithAttention', backbone={{_base_.backbone}}, attention=attention))
