# Table 5: SSDLite320, MobileNeXt, COCO 2017.
_base_ = [
    './_base_/models/ssdlite320_mobilenext.py',
    './_base_/datasets/coco_ssdlite320.py',
    './_base_/schedules/schedule_200k.py',
    './_base_/default_runtime.py',
]

# The 1 × 1 level has two values a channel on a GPU, sixteen on eight of them. One process, or a CPU, has plain norms.
sync_bn = 'torch'
optim_wrapper = dict(optimizer=dict(weight_decay=4.0e-5))
env_cfg = dict(cudnn_benchmark=True)  # every image is 320 × 320
