# The paper's for lightweight networks: batch 256, lr 0.1, cosine, weight decay 4e-5. 100 epochs, as MMPretrain's.
_base_ = 'mmpretrain::_base_/schedules/imagenet_bs256_coslr.py'

optim_wrapper = dict(optimizer=dict(weight_decay=0.00004))
