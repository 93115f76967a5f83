"""The tool on a detector and a classifier, in real processes; the supernet's hook in one and two."""

import json

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DATASETS, MODELS

from ean_mmdet.datasets import SplitDataset
from ean_mmdet.errors import InputError
from ean_mmdet.insertion import positions, set_connections
from ean_mmdet.search import SupernetHook, supernet_config
from ean_mmdet.search.evaluation import reestimate_norms
from tests.conftest import ROOT
from tests.test_tools.test_train_and_test import free_port
from tests.test_tools.tiny import write_config

pytestmark = pytest.mark.slow


@pytest.fixture(scope='module')
def tiny(tmp_path_factory, sample_data):
    return write_config(tmp_path_factory.mktemp('config'), sample_data)


@pytest.fixture(scope='module')
def searched(tmp_path_factory, tiny, run_tool):
    work_dir = tmp_path_factory.mktemp('searched')
    arguments = (tiny, '--work-dir', work_dir, '--budget', 3, '--held-out', 0.25, '--strategy', 'random')
    return work_dir, arguments, run_tool('search_connections.py', *arguments)


def test_writes_a_config_that_trains_a_json_and_a_picture(searched, tiny, tmp_path, run_tool):
    work_dir, _, result = searched
    content = json.loads((work_dir / 'tiny_random.json').read_text())
    assert len(content['schemes']) == 3 and len(content['blocks']) == 15
    assert content['found'] == ''.join(map(str, content['schemes'][0]['scheme']))
    assert f'the best is {content["found"]}' in result.stdout
    assert (work_dir / 'tiny_random.png').read_bytes()[:4] == b'\x89PNG'
    found = Config.fromfile(work_dir / 'tiny_random.py')
    assert found.model.backbone.connections == content['schemes'][0]['scheme']
    run_tool('train.py', work_dir / 'tiny_random.py', '--work-dir', tmp_path, '--cfg-options', 'train_cfg.max_iters=1')


def test_goes_on_where_it_was_stopped(searched, run_tool):
    work_dir, arguments, _ = searched
    file = work_dir / 'schemes_4_norm_batches.jsonl'
    lines = file.read_text().splitlines()
    logs = len(list((work_dir / 'supernet').glob('2*')))
    file.write_text(lines[0] + '\n')
    run_tool('search_connections.py', *arguments)
    again = [json.loads(line) for line in file.read_text().splitlines()]
    assert [entry['scheme'] for entry in again] == [json.loads(line)['scheme'] for line in lines]
    # the supernet wasn't trained again
    new = sorted((work_dir / 'supernet').glob('2*'))
    assert len(new) == logs + 1 and 'Iter(train)' not in next(new[-1].glob('*.log')).read_text()
    result = run_tool('search_connections.py', *arguments, '--seed', 1, check=False)
    assert result.returncode == 2 and 'take another --work-dir' in result.stderr


def test_a_classifier(tmp_path, run_tool):
    classes = Config.fromfile(ROOT / 'configs/pretrain/se_mobilenext_cifar10.py')
    from mmpretrain.datasets import CIFAR10

    rng = np.random.default_rng(0)
    import cv2

    for name in CIFAR10.METAINFO['classes']:
        (tmp_path / 'cifar/train' / name).mkdir(parents=True)
        for i in range(6):
            cv2.imwrite(str(tmp_path / f'cifar/train/{name}/{i}.png'), rng.integers(0, 255, (32, 32, 3), dtype='uint8'))
    config = tmp_path / 'small.py'
    config.write_text(
        f'_base_ = {classes.filename!r}\n'
        'model = dict(backbone=dict(widen_factor=0.25, last_channels=320), head=dict(in_channels=320))\n'
        f'data = dict(data_root={str(tmp_path / "cifar")!r})\n'
        'train_dataloader = dict(batch_size=8, num_workers=0, persistent_workers=False, dataset=data)\n'
        'val_dataloader = dict(batch_size=8, num_workers=0, persistent_workers=False, dataset=data)\n'
        'train_cfg = dict(max_epochs=1)\n'
    )
    work_dir = tmp_path / 'run'
    arguments = ('--budget', 2, '--norm-batches', 0, '--metric', 'accuracy/top1')
    result = run_tool('search_connections.py', config, '--work-dir', work_dir, *arguments)
    assert '2 schemes evaluated' in result.stdout and (work_dir / 'small_controller.py').is_file()


def test_the_parts_of_a_split(tiny):
    config = Config.fromfile(tiny)
    whole = config.train_dataloader.dataset
    parts = [SplitDataset(dict(whole), part, share=0.25, seed=1) for part in ('train', 'held_out')]
    ids = [{part.get_data_info(i)['img_id'] for i in range(len(part))} for part in parts]
    assert len(ids[0]) == 18 and len(ids[1]) == 6 and not ids[0] & ids[1]
    with pytest.raises(ValueError, match='both parts need one at least'):
        SplitDataset(dict(whole), 'train', share=0.001)
    split = supernet_config(config, 0.25)
    held_out = DATASETS.build(split.val_dataloader.dataset)
    # annotated, by the validation pipeline
    assert len(held_out[0]['data_samples'].gt_instances) and held_out[0]['data_samples'].instances
    assert config.train_dataloader.dataset.type == 'CocoDataset'


def test_a_backbone_without_attention(tiny):
    config = Config.fromfile(tiny)
    config.model.backbone = dict(type='ResNet', depth=50)
    with pytest.raises(InputError, match=r'the backbone ResNet of the config has no attention.*WithAttention'):
        supernet_config(config)


def test_schemes_are_drawn_by_iteration_alone():
    schemes = [SupernetHook(seed=1).scheme(i, 15) for i in range(200)]
    assert schemes == [SupernetHook(seed=1).scheme(i, 15) for i in range(200)]
    assert schemes != [SupernetHook(seed=2).scheme(i, 15) for i in range(200)]
    assert np.mean(schemes, axis=0) == pytest.approx([0.5] * 15, abs=0.12)


def test_two_processes_draw_the_same_scheme(tiny, tmp_path, run_tool):
    (tmp_path / 'note_scheme.py').write_text(
        'import os\n'
        'from mmengine.hooks import Hook\n'
        'from mmengine.registry import HOOKS\n'
        'from ean_mmdet import positions\n'
        '@HOOKS.register_module()\n'
        'class NoteScheme(Hook):\n'
        '    def after_train_iter(self, runner, *args, **kwargs):\n'
        '        scheme = "".join(str(int(p.switch.on)) for p in positions(runner.model))\n'
        f'        with open({str(tmp_path)!r} + "/rank" + os.environ["RANK"], "a") as file:\n'
        '            print(scheme, file=file)\n'
    )
    config = tmp_path / 'noted.py'
    config.write_text(
        f'_base_ = {str(tiny)!r}\n'
        "custom_imports = dict(imports=['ean_mmdet', 'note_scheme'])\n"
        "custom_hooks = [dict(type='SafeCheckpointHook'), dict(type='NoteScheme')]\n"
    )
    work_dir = tmp_path / 'run'
    import os
    import subprocess
    import sys

    # torchrun on the tool itself, as tools/dist_train.sh does with train.py
    command = [sys.executable, '-W', 'ignore', '-m', 'torch.distributed.run', '--nproc_per_node=2']
    command += [f'--master_port={free_port()}', ROOT / 'tools/search_connections.py', config, '--launcher', 'pytorch']
    command += ['--work-dir', work_dir, '--budget', '2', '--held-out', '0.25']
    environment = {**os.environ, 'PYTHONPATH': f'{tmp_path}:{ROOT}', 'OMP_NUM_THREADS': '1'}
    result = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr[-3000:]
    first, second = ((tmp_path / f'rank{rank}').read_text().split() for rank in range(2))
    assert first == second and len(first) == 6 and len(set(first)) > 1
    assert len((work_dir / 'schemes_4_norm_batches.jsonl').read_text().splitlines()) == 2


def test_norms_are_re_estimated_as_the_average_of_batches():
    from mmengine.model import BaseModel

    class Net(BaseModel):
        def __init__(self):
            super().__init__()
            self.norm = torch.nn.BatchNorm2d(3)
            self.frozen = torch.nn.BatchNorm2d(3)

        def train(self, mode=True):
            super().train(mode)
            self.frozen.eval()

        def forward(self, inputs, mode):
            return self.norm(inputs)

    net = Net()
    batches = [dict(inputs=torch.randn(4, 3, 5, 5) + i) for i in range(3)]
    reestimate_norms(net, batches)
    expected = torch.stack([batch['inputs'].mean((0, 2, 3)) for batch in batches]).mean(0)
    torch.testing.assert_close(net.norm.running_mean, expected)
    assert net.norm.momentum == 0.1 and not net.frozen.running_mean.any()


def test_the_published_schemes():
    for name in ('sge', 'dia', 'ean'):
        config = Config.fromfile(ROOT / f'configs/search/{name}_r50_found_imagenet.py')
        backbone = MODELS.build(config.model.backbone)
        scheme = ''.join(str(int(position.switch.on)) for position in positions(backbone))
        assert scheme == ('1001011010011011' if name == 'sge' else '1100011110010011')
        set_connections(backbone, [1, 0] * 8)


def test_dia_adds_the_papers_parameters():
    backbones = {
        name: MODELS.build(Config.fromfile(ROOT / f'configs/{name}_imagenet.py').model.backbone)
        for name in ('search/dia_r50', 'pretrain/r50')
    }
    dia, plain = (sum(p.numel() for p in backbone.parameters()) for backbone in backbones.values())
    assert round((dia - plain) / 1e6, 2) == 2.80
