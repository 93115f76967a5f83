"""A detector small enough to train in seconds, as a config file on the sample data set."""

from pathlib import Path

from tests.conftest import ROOT


def write_config(folder: Path, data: Path, iterations: int = 6) -> Path:
    """A quarter-width EAN-MobileNeXt SSDLite at 96 pixels, batch 2, with a checkpoint every 3 iterations."""
    base = ROOT / 'configs/sample/ssdlite192_ean_mobilenext_sample.py'
    path = folder / 'tiny.py'
    path.write_text(
        f"""_base_ = {str(base)!r}
data_root = {str(data) + '/'!r}
level_channels = (72, 144, 320, 64)
model = dict(
    backbone=dict(widen_factor=0.25, last_channels=320),
    neck=dict(in_channels=level_channels[:3], out_channels=level_channels),
    bbox_head=dict(in_channels=level_channels),
    test_cfg=dict(score_thr=0.0, max_per_img=20),
)
train_pipeline = _base_.train_dataloader.dataset.pipeline
train_pipeline[2]['scale'] = (96, 96)
test_pipeline = _base_.val_dataloader.dataset.pipeline
test_pipeline[1]['scale'] = (96, 96)
train_dataloader = dict(
    batch_size=2, num_workers=0, persistent_workers=False, dataset=dict(data_root=data_root, pipeline=train_pipeline)
)
val_dataloader = dict(
    batch_size=2, num_workers=0, persistent_workers=False, dataset=dict(data_root=data_root, pipeline=test_pipeline)
)
test_dataloader = val_dataloader
val_evaluator = dict(ann_file=data_root + 'annotations/instances_val.json')
test_evaluator = val_evaluator
train_cfg = dict(max_iters={iterations}, val_interval={iterations})
param_scheduler = [dict(type='LinearLR', start_factor=0.1, by_epoch=False, begin=0, end={iterations})]
default_hooks = dict(checkpoint=dict(interval=3, max_keep_ckpts=-1), logger=dict(interval=1))
"""
    )
    return path
