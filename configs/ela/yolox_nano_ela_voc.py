# ELA (arXiv 2403.01123): YOLOX-nano with ELA-B in every block of the backbone, Pascal VOC.
_base_ = ['./yolox_nano_voc.py', '../_base_/attention/ela_b.py']

model = dict(
    backbone=dict(
        _delete_=True, type='WithAttention', backbone={{_base_.model.backbone}}, attention={{_base_.attention}}
    )
)
