# ELA (arXiv 2403.01123): YOLOX-nano with ELA-B in every block of the backbone, Pascal VOC.
_base_ = './yolox_nano_voc.py'

attention = dict(type='ELA', variant='B')
model = dict(
    backbone=dict(_delete_=True, type='WithAttention', backbone={{_base_.model.backbone}}, attention=attention)
)
