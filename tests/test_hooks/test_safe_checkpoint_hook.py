"""The hook in a real runner: what is written, and what is refused."""

import numpy as np
import pytest
import torch
from mmengine.hooks import CheckpointHook
from mmengine.model import BaseModel
from mmengine.optim import OptimWrapper
from mmengine.runner import Runner
from torch import nn
from torch.utils.data import DataLoader

from ean_mmdet.errors import InputError


class Regressor(BaseModel):
    def __init__(self, width=1):
        super().__init__()
        self.linear = nn.Linear(3, width)

    def forward(self, x, mode='tensor'):
        loss = self.linear(x).square().mean()
        return dict(loss=loss) if mode == 'loss' else loss


def make_runner(work_dir, iterations=6, model=None, **kwargs):
    model = model or Regressor()
    return Runner(
        model=model,
        work_dir=str(work_dir),
        train_dataloader=DataLoader([dict(x=torch.full((3,), float(i))) for i in range(8)], batch_size=2),
        train_cfg=dict(by_epoch=False, max_iters=iterations),
        optim_wrapper=OptimWrapper(torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)),
        param_scheduler=dict(type='LinearLR', by_epoch=False, start_factor=0.1, end=6),
        default_hooks=dict(checkpoint=dict(type=CheckpointHook, by_epoch=False, interval=3)),
        custom_hooks=[dict(type='SafeCheckpointHook')],
        experiment_name=f'{work_dir.name}_{id(kwargs)}',
        log_level='ERROR',
        randomness=dict(seed=0),
        **kwargs,
    )


@pytest.fixture
def trained(tmp_path):
    runner = make_runner(tmp_path / 'run')
    runner.message_hub.update_info('best_score', np.float64(0.25))
    runner.train()
    return tmp_path / 'run'


def test_pytorch_alone_loads_what_is_saved(trained):
    checkpoint = torch.load(trained / 'iter_6.pth', weights_only=True)
    history = checkpoint['message_hub']['log_scalars']['train/loss']
    assert len(history['log_history']) == 6
    assert checkpoint['message_hub']['runtime_info']['best_score'] == 0.25
    assert checkpoint['optimizer']['state'][0]['momentum_buffer'].shape == (1, 3)


def test_resuming_goes_on_where_it_was(trained, tmp_path):
    resumed = make_runner(tmp_path / 'resumed', load_from=str(trained / 'iter_3.pth'), resume=True)
    resumed.train()
    mine, theirs = (torch.load(path / 'iter_6.pth', weights_only=True) for path in (tmp_path / 'resumed', trained))
    for key, value in theirs['state_dict'].items():
        torch.testing.assert_close(mine['state_dict'][key], value, rtol=0, atol=0)
    hubs = [checkpoint['message_hub']['log_scalars']['train/loss']['log_history'] for checkpoint in (mine, theirs)]
    torch.testing.assert_close(*hubs)


def test_foreign_checkpoints_are_refused(trained, tmp_path):
    runner = make_runner(tmp_path / 'other', model=Regressor(width=5), load_from=str(trained / 'iter_3.pth'))
    # the bias and the weight have other shapes in this one
    with pytest.raises(InputError, match=r'iter_3\.pth fills 0\.0% .* this Regressor.*linear\.weight is \[1, 3\], not'):
        runner.train()


def test_weights_alone_cannot_be_resumed(trained, tmp_path):
    weights = torch.load(trained / 'iter_3.pth', weights_only=True)['state_dict']
    torch.save(dict(state_dict=weights, meta={}), tmp_path / 'weights.pth')
    runner = make_runner(tmp_path / 'other', load_from=str(tmp_path / 'weights.pth'), resume=True)
    with pytest.raises(InputError, match=r'no training state.*load_from='):
        runner.train()
