import json

import torch
from mmengine.evaluator import BaseMetric, Evaluator
from mmengine.model import BaseModel
from mmengine.runner import Runner
from torch import nn


class Model(BaseModel):
    """Its one weight grows by one a step, and is what it predicts."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, inputs, data_samples=None, mode='tensor'):
        return dict(loss=-self.weight.sum()) if mode == 'loss' else [self.weight.detach().clone()]


class Weight(BaseMetric):
    default_prefix = 'model'

    def process(self, data_batch, data_samples) -> None:
        self.results.append(data_samples[0].item())

    def compute_metrics(self, results) -> dict:
        return dict(weight=results[0])


def run(work_dir, iterations: int, **kwargs) -> list[tuple[int, float]]:
    """Train, and read the validations of this and earlier runs from their logs: step and metric."""
    data = dict(dataset=[dict(inputs=torch.zeros(1))] * 4, batch_size=2, sampler=dict(type='DefaultSampler'))
    runner = Runner(
        model=Model(),
        work_dir=str(work_dir),
        train_dataloader=data | dict(sampler=dict(type='InfiniteSampler')),
        val_dataloader=data,
        val_evaluator=Evaluator(Weight()),
        train_cfg=dict(by_epoch=False, max_iters=iterations, val_interval=2),
        val_cfg=dict(),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=1.0)),
        default_hooks=dict(
            checkpoint=dict(
                type='CheckpointHook', by_epoch=False, interval=2, save_best='model/weight', rule='greater'
            ),
            logger=dict(type='LoggerHook', log_metric_by_epoch=False),
        ),
        custom_hooks=[dict(type='SafeCheckpointHook'), dict(type='ValidateFirstHook')],
        log_processor=dict(by_epoch=False),
        experiment_name=f'{work_dir.parent.name}_{iterations}',
        default_scope='mmengine',
        **kwargs,
    )
    runner.train()
    lines = [line for path in sorted(work_dir.glob('*/vis_data/scalars.json')) for line in path.open()]
    return [(log['step'], log['model/weight']) for log in map(json.loads, lines) if 'model/weight' in log]


def test_the_log_begins_before_the_first_step(tmp_path):
    assert run(tmp_path / 'run', 4) == [(0, 0), (2, 2), (4, 4)]


def test_a_resumed_run_does_not_start_again(tmp_path):
    run(tmp_path / 'run', 2)
    assert run(tmp_path / 'run', 4, resume=True) == [(0, 0), (2, 2), (4, 4)]
