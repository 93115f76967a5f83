"""Training stops at once where a batch norm would see one value a channel."""

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.model import BaseModel
from mmengine.runner import Runner
from torch import nn

from ean_mmdet.engine import build_runner
from ean_mmdet.errors import InputError
from ean_mmdet.hooks.batch_norm_check_hook import unchanged_random_numbers
from tests.conftest import ROOT
from tests.test_tools.tiny import write_config


class Model(BaseModel):
    """A norm on the whole image and one on a single pixel of it; ``frozen`` doesn't train."""

    def __init__(self, frozen: bool = False) -> None:
        super().__init__()
        self.wide, self.narrow, self.frozen = nn.BatchNorm2d(3), nn.BatchNorm2d(3), frozen

    def train(self, mode: bool = True):
        super().train(mode)
        if self.frozen:
            self.narrow.eval()
        return self

    def forward(self, inputs, mode='tensor'):
        inputs = torch.stack(inputs)
        return dict(loss=self.narrow(self.wide(inputs)[..., :1, :1]).sum())


def train(work_dir, images: int, size: int, model: BaseModel, **data):
    runner = Runner(
        model=model,
        work_dir=str(work_dir),
        train_dataloader=dict(
            dataset=[dict(inputs=torch.rand(3, 4, 4)) for _ in range(images)],
            batch_size=size,
            sampler=dict(type='DefaultSampler'),
            **data,
        ),
        train_cfg=dict(by_epoch=True, max_epochs=1),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=1.0)),
        custom_hooks=[dict(type='BatchNormCheckHook')],
        experiment_name=work_dir.name,
        default_scope='mmengine',
    )
    runner.train()
    return runner


def test_one_image_a_batch(tmp_path):
    model = Model()
    with pytest.raises(InputError, match=r'batch norm narrow \(3 channels\) would.*a batch of one image.*batch_size=2'):
        train(tmp_path, 4, 1, model)
    assert model.training and not model.narrow.running_mean.any() and not model.narrow._forward_pre_hooks


def test_the_last_batch_of_an_epoch(tmp_path):
    with pytest.raises(InputError, match=r'the last batch of an epoch, which is one image.*drop_last=True'):
        train(tmp_path, 5, 2, Model())


@pytest.mark.parametrize(
    ('images', 'size', 'frozen', 'data'),
    [(4, 2, False, {}), (5, 2, False, dict(drop_last=True)), (4, 1, True, {})],
    ids=['even', 'drop_last', 'frozen'],
)
def test_what_trains(images, size, frozen, data, tmp_path):
    assert train(tmp_path, images, size, Model(frozen), **data).iter == images // size


def test_a_detector_at_one_image(tmp_path, sample_data):
    config = Config.fromfile(write_config(tmp_path, sample_data))
    level_channels = (*config.model.neck.in_channels, 64, 64, 32)
    config.merge_from_dict(
        {
            'model.neck.out_channels': level_channels,
            'model.neck.level_strides': (2, 2, 2),
            'model.neck.level_paddings': (1, 1, 1),
            'model.bbox_head.in_channels': level_channels,
            'model.bbox_head.anchor_generator': Config.fromfile(
                ROOT / 'configs/_base_/models/ssdlite320_mobilenext.py'
            ).model.bbox_head.anchor_generator,
            'train_dataloader.batch_size': 1,
            'work_dir': str(tmp_path / 'run'),
        }
    )
    runner = build_runner(config)
    with pytest.raises(
        InputError, match=r'the batch norm neck\.\S+ \(\d+ channels\) and \d+ others would see one value'
    ):
        runner.train()
    assert not [name for name, value in runner.model.state_dict().items() if 'running_mean' in name and value.any()]


def test_random_numbers_go_on():
    torch.manual_seed(0)
    np.random.seed(0)
    with unchanged_random_numbers():
        torch.rand(3), np.random.rand(3)
    drawn = torch.rand(1), np.random.rand()
    torch.manual_seed(0)
    np.random.seed(0)
    assert drawn == (torch.rand(1), np.random.rand())
