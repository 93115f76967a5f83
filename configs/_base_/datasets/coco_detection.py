# COCO 2017 at up to 1333 × 800, as MMDetection reads it, without end: 2 images a GPU, 16 on 8.
_base_ = 'mmdet::_base_/datasets/coco_detection.py'

train_dataloader = dict(sampler=dict(type='InfiniteSampler', shuffle=True))
