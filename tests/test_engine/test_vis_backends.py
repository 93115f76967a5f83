"""Metrics and pictures in TensorBoard, read back by its own reader."""

import pytest
from mmengine.config import Config
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from ean_mmdet.engine import use_backends
from ean_mmdet.errors import InputError
from tests.test_tools.tiny import write_config

pytestmark = pytest.mark.slow


def read(folder):
    (file,) = folder.rglob('events.out.tfevents*')
    events = EventAccumulator(str(file), size_guidance=dict(images=0))
    events.Reload()
    return events


def test_tensorboard_has_training_and_test(tmp_path, sample_data, run_tool):
    tiny = write_config(tmp_path, sample_data)
    run_tool('train.py', tiny, '--work-dir', tmp_path / 'run', '--vis-backend', 'tensorboard')
    tags = read(tmp_path / 'run').Tags()['scalars']
    assert {'loss', 'lr', 'coco/bbox_mAP'} <= set(tags)
    checkpoint = tmp_path / 'run/iter_6.pth'
    run_tool('test.py', tiny, checkpoint, '--work-dir', tmp_path / 'test', '--vis-backend', 'tensorboard')
    events = read(tmp_path / 'test')
    assert 'test/coco/bbox_mAP' in events.Tags()['scalars']
    assert len([tag for tag in events.Tags()['images'] if tag.startswith('test/')]) == 8
    picture = events.Images('test/0')[0]
    assert picture.width >= 2 * picture.height * 0.9  # ground truth beside predictions


def test_backends_of_the_config_stay(monkeypatch):
    config = Config(dict(visualizer=dict(type='X', vis_backends=[dict(type='TensorboardVisBackend', save_dir='a')])))
    use_backends(config, ['tensorboard'])
    assert config.visualizer.vis_backends == [dict(type='TensorboardVisBackend', save_dir='a')]
    monkeypatch.setattr('importlib.util.find_spec', lambda name: None)
    with pytest.raises(InputError, match='--vis-backend wandb needs the package wandb: pip install wandb'):
        use_backends(config, ['wandb'])
