# By epochs: a validation and a checkpoint each.
_base_ = './default_runtime.py'

default_hooks = dict(checkpoint=dict(by_epoch=True, interval=1), logger=dict(log_metric_by_epoch=True))
log_processor = dict(by_epoch=True)
