# The scheme that the authors' code found for DIA, 9 of 16 blocks.
_base_ = './dia_r50_imagenet.py'

model = dict(backbone=dict(connections=[1, 1, 0, 0, 0, 1, 1, 1, 1, 0, 0, 1, 0, 0, 1, 1]))
