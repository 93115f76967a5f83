"""Real runs of mmengine that know their own place: a model whose weight, metric and loss count its steps."""

from __future__ import annotations

import json
import time
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.evaluator import BaseMetric
from mmengine.model import BaseModel
from mmengine.registry import DATASETS, METRICS, MODELS
from mmengine.runner import Runner
from torch import nn
from torch.utils.data import Dataset


@MODELS.register_module()
class StepCounter(BaseModel):
    """Its one weight is the number of steps done; its loss in step ``i`` is ``1 - i``."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, inputs, data_samples=None, mode='tensor'):
        return dict(loss=-self.weight.sum()) if mode == 'loss' else [self.weight.detach().clone()]


@DATASETS.register_module()
class Zeros(Dataset):
    def __len__(self) -> int:
        return 14

    def __getitem__(self, index: int) -> dict:
        return dict(inputs=torch.zeros(1))


@METRICS.register_module()
class StepsDone(BaseMetric):
    default_prefix = 'count'

    def process(self, data_batch, data_samples) -> None:
        self.results.append(data_samples[0].item())

    def compute_metrics(self, results) -> dict:
        return dict(other=-1.0, steps=results[0])


def train(work_dir: Path, by_epoch: bool, end: int, val_interval: int = 1, **options: object) -> Path:
    """Train to an epoch, of 7 iterations, or to an iteration; every second iteration is logged.

    Args:
        work_dir: Where to.
        by_epoch: Whether the loop counts epochs.
        end: The last epoch or iteration.
        val_interval: Between validations.
        options: Settings that override the config's, by their dotted keys.

    Returns:
        The folder of this start.
    """
    time.sleep(1 - time.time() % 1)  # a start is named by its second
    data = dict(dataset=dict(type='Zeros'), batch_size=2, num_workers=0)
    sampler = 'DefaultSampler' if by_epoch else 'InfiniteSampler'
    config = Config(
        dict(
            model=dict(type='StepCounter'),
            work_dir=str(work_dir),
            train_dataloader=dict(**data, sampler=dict(type=sampler)),
            val_dataloader=dict(**data, sampler=dict(type='DefaultSampler')),
            val_evaluator=dict(type='StepsDone'),
            train_cfg={'by_epoch': by_epoch, 'max_epochs' if by_epoch else 'max_iters': end}
            | dict(val_interval=val_interval),
            val_cfg=dict(),
            optim_wrapper=dict(optimizer=dict(type='SGD', lr=1.0)),
            default_hooks=dict(
                checkpoint=dict(type='CheckpointHook', by_epoch=by_epoch, interval=1 if by_epoch else 3),
                logger=dict(type='LoggerHook', interval=2),
            ),
            custom_hooks=[dict(type='SafeCheckpointHook')],
            log_processor=dict(by_epoch=by_epoch, window_size=1),
            default_scope='mmengine',
            experiment_name=f'{work_dir.parent.name}_{work_dir.name}_{time.time():.0f}',
        )
    )
    config.merge_from_dict(options)
    runner = Runner.from_cfg(config)
    runner.train()
    return Path(runner.log_dir)


def write_run(work_dir: Path, lines: list[dict | str], config: str | None = '', start: str = '20260101_000000') -> Path:
    """Write a start's log, and its config, by hand. Returns the ``scalars.json``."""
    file = work_dir / start / 'vis_data' / 'scalars.json'
    file.parent.mkdir(parents=True)
    file.write_text('\n'.join(line if isinstance(line, str) else json.dumps(line) for line in lines) + '\n')
    if config is not None:
        file.with_name('config.py').write_text(config)
    return file


def write_curve(work_dir: Path, accuracy: float, groups: object) -> Path:
    """Write the log of 12 epochs of 50 iterations that end at an accuracy."""
    lines = []
    for epoch in range(1, 13):
        for inner in range(10, 51, 10):
            step = (epoch - 1) * 50 + inner
            lines.append(dict(lr=0.1 / 10 ** (epoch // 5), loss=0.3 + 2 / step**0.5, epoch=epoch, iter=step, step=step))
        lines.append({'accuracy/top1': accuracy * (1 - 0.5**epoch), 'accuracy/top5': 99.0, 'step': epoch})
    lines[-1]['accuracy/top1'] = accuracy
    config = f"""
model = dict(backbone=dict(type='EANResNet', groups={groups!r}, out_indices=(3,)))
train_cfg = dict(by_epoch=True, max_epochs=12)
default_hooks = dict(checkpoint=dict(save_best='auto'))
"""
    write_run(work_dir, lines, config)
    return work_dir
