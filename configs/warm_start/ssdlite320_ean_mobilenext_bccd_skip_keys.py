# The same with EAN's keys skipped, the usual way: each EAN halves what it is given.
_base_ = './ssdlite320_ean_mobilenext_bccd_warm_start.py'

model = dict(init_cfg=dict(type='Pretrained', keep_function=False))
