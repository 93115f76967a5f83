"""tools/doctor.py and what it calls: one screen about this machine, and a rehearsal of a config's training."""

import json
from types import ModuleType

import pytest
import torch
from mmengine.config import Config

from ean_mmdet.analysis import doctor
from ean_mmdet.analysis.rehearsal import rehearse
from ean_mmdet.errors import InputError
from ean_mmdet.ops import norm_gate_cpp, norm_gate_eager
from ean_mmdet.ops.self_check import Variant
from tests.conftest import ROOT
from tests.test_tools.tiny import write_config

pytestmark = pytest.mark.slow


@pytest.fixture
def tiny(tmp_path, sample_data):
    return Config.fromfile(write_config(tmp_path, sample_data))


def test_one_screen_and_json(run_tool, tmp_path, sample_data):
    config = write_config(tmp_path, sample_data)
    result = run_tool('doctor.py', config, '--train', '--iterations', 6, '--json', tmp_path / 'all.json')
    report = json.loads((tmp_path / 'all.json').read_text())
    assert report['versions']['PyTorch'] == torch.__version__ in result.stdout
    assert report['distributed']['all-reduce'].startswith('gloo, 2 processes, 64 MB in ')
    assert set(report['data'].values()) == {'there'} and len(report['data']) >= 3
    assert ' s at batch 2' in report['training']['iteration']
    assert report['training']['whole schedule'].startswith('6 iterations')
    assert 'No problem found.' in result.stdout and result.stdout.count('\n') < 80


def test_missing_data_is_a_problem(tiny, sample_data):
    tiny.train_dataloader.dataset.data_root = '/nowhere/'
    report = dict(data=doctor._data(tiny))
    lines = doctor.problems(report)
    assert lines and all('/nowhere/' in line and 'train of CocoDataset reads it' in line for line in lines)


@pytest.mark.skipif(norm_gate_cpp.missing() is not None, reason='needs the compiled kernels')
def test_kernels_that_differ_are_a_problem(monkeypatch):
    wrong = ModuleType('wrong')
    wrong.missing, wrong.kernels, wrong.IN_PLACE = (lambda: None), (lambda: 'wrong'), False
    wrong.forward = lambda *a: (norm_gate_eager.forward(*a)[0] + 1, *norm_gate_eager.forward(*a)[1:])
    wrong.backward = norm_gate_eager.backward
    monkeypatch.setattr(doctor, 'norm_gate_cpp', wrong)
    both = [Variant(d, torch.float32, False, 'evaluation', True, True) for d in ('forward', 'backward')]
    monkeypatch.setattr(doctor.self_check, 'variants', lambda: both)
    (line,) = doctor.problems(dict(kernels=doctor._kernels(False, iter)))
    assert 'self-check, cpu: 1 of 2 kernels are wrong' in line and 'forward, float32, contiguous' in line


def test_processes_that_fail_are_a_problem(monkeypatch, tmp_path):
    (tmp_path / 'all_reduce.py').write_text('raise SystemExit("no NCCL here")')
    monkeypatch.setattr(doctor, '__file__', str(tmp_path / 'doctor.py'))
    assert doctor._distributed() == {'all-reduce': '! over 2 processes: no NCCL here'}


def test_rehearsal_of_a_detector_needs_no_data(tiny, sample_data):
    for part in (tiny.train_dataloader.dataset, tiny.val_dataloader.dataset):
        part.data_root = '/nowhere/'
    tiny.model.backbone.init_cfg = dict(type='Pretrained', checkpoint='https://nowhere.invalid/weights.pth')
    found = rehearse(tiny, 6)
    assert found['batch'] == 2 and found['iterations'] == 6 and found['memory'] is None
    assert found['finite'] and len(found['loss']) == 2 and 0 <= found['waiting'] < 1
    assert found['hours'] == pytest.approx(6 * found['seconds'] / 3600)


def test_rehearsal_of_a_classifier_counts_epochs():
    config = Config.fromfile(ROOT / 'configs/pretrain/mobilenext_cifar10.py')
    config.model.backbone.widen_factor = 0.25
    config.train_dataloader.batch_size = 4
    config.train_dataloader.num_workers, config.train_dataloader.persistent_workers = 0, False
    found = rehearse(config, 5)
    assert found['batch'] == 4 and found['finite']
    assert found['iterations'] == 200 * 50_000 / 4


def test_too_few_iterations(tiny):
    with pytest.raises(InputError, match=r'--iterations must be more than 4, got 2'):
        rehearse(tiny, 2)
