# The scheme that the authors' code found for SGE, 9 of 16 blocks.
_base_ = './sge_r50_imagenet.py'

model = dict(backbone=dict(connections=[1, 0, 0, 1, 0, 1, 1, 0, 1, 0, 0, 1, 1, 0, 1, 1]))
