# Table 4: SSDLite320, MobileNeXt, Pascal VOC: VOC2007 trainval and VOC2012 train, evaluated on VOC2012 val.
_base_ = [
    './_base_/models/ssdlite320_mobilenext.py',
    './_base_/datasets/voc_ssdlite320.py',
    './_base_/schedules/schedule_200k.py',
    './_base_/default_runtime.py',
]

model = dict(bbox_head=dict(num_classes=20))
optim_wrapper = dict(optimizer=dict(lr=0.001, weight_decay=4.0e-5))
# 8 GPUs × 4 images
auto_scale_lr = dict(base_batch_size=32)
env_cfg = dict(cudnn_benchmark=True)  # every image is 320 × 320
