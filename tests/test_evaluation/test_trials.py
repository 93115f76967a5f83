import json
import sys

import pytest
import torch
from mmengine.config import Config

from ean_mmdet.errors import InputError
from ean_mmdet.evaluation.comparison import choose_rates
from ean_mmdet.evaluation.trials import Launcher, Runner, check_protocols, make_pilots, make_trials, protocol
from ean_mmdet.evaluation.variants import Variant
from tests.conftest import ROOT
from tests.test_tools.tiny import write_config


@pytest.fixture
def variants(tmp_path, sample_data):
    config = Config.fromfile(write_config(tmp_path, sample_data))
    return [Variant(name, config) for name in ('none', 'EAN')]


def finish(trial, value, **changes):
    trial.folder.mkdir(parents=True)
    done = dict(metrics={'other': 9.0, 'coco/bbox_mAP': value}, protocol=protocol(trial) | changes, seconds=1.0)
    trial.done_file.write_text(json.dumps(done))


def test_a_rate_is_chosen_on_training_images(variants, tmp_path):
    pilots = make_pilots(variants[:1], [0.01, 0.02, 0.04], tmp_path / 'work')
    for pilot in pilots:
        train, test = pilot.config.train_dataloader.dataset, pilot.config.test_dataloader.dataset
        assert train.type == 'RepeatableDataset' and train.dataset.type == test.type == 'SplitDataset'
        assert (train.dataset.part, test.part) == ('train', 'held_out')
        assert train.dataset.dataset.ann_file == test.dataset.ann_file and 'train' in test.dataset.ann_file
        assert pilot.config.optim_wrapper.optimizer.lr == pilot.rate
    for pilot, value in zip(pilots, (0.1, 0.3, 0.2)):
        finish(pilot, value)
    best, table = choose_rates(pilots, None, False, {})
    assert best == {'none': 0.02} and table.rows[1] == ('none', '0.02', '0.3', 'chosen')
    assert 'Chosen on none alone, for all networks.' in table.notes
    pilots[2].done_file.unlink()
    with pytest.raises(InputError, match=r'cannot be chosen without none, rate 0\.04 \(see log\)'):
        choose_rates(pilots, None, False, {'none, rate 0.04': 'log'})
    trials = make_trials(variants, [0], tmp_path / 'work', {'none': 0.02, 'EAN': 0.04})
    assert [trial.config.optim_wrapper.optimizer.lr for trial in trials] == [0.02, 0.04]


def test_what_a_run_is_of_is_checked_by_name(variants, tmp_path):
    trials = make_trials(variants, [0, 1], tmp_path / 'work')
    assert [trial.name for trial in trials] == ['none, seed 0', 'EAN, seed 0', 'none, seed 1', 'EAN, seed 1']
    for trial in trials[:2]:
        finish(trial, 0.1)
    check_protocols(trials)
    finish(trials[2], 0.1, versions=dict(protocol(trials[2])['versions'], torch='1.0'))
    with pytest.raises(InputError, match=r'none, seed 1 .* another protocol.*versions: torch was 1\.0, is'):
        check_protocols(trials)
    data = protocol(trials[0])['data']
    assert any('instances_train.json' in key for key in data) and data['test_dataloader.batch_size'] == '2'
    again = make_trials(variants, [0], tmp_path / 'work', {'none': 0.5, 'EAN': 0.5})
    with pytest.raises(InputError, match=r'none, seed 0 .*optimizer\.lr was .*, is 0\.5'):
        check_protocols(again)


def test_each_run_starts_from_its_own_backbone(variants, tmp_path):
    for variant in variants:
        variant.config.model.backbone.init_cfg = dict(type='WarmStart', checkpoint='x/{network}/seed{seed}/epoch_3.pth')
    trials = make_trials(variants, [0, 1], tmp_path)
    assert [t.config.model.backbone.init_cfg.checkpoint for t in trials][1:3] == [
        'x/EAN/seed0/epoch_3.pth', 'x/none/seed1/epoch_3.pth'
    ]  # fmt: skip


@pytest.mark.parametrize('kind', ['none', 'torchrun', 'slurm'])
def test_commands(kind, variants, tmp_path):
    trial = make_trials(variants, [3], tmp_path)[1]
    train, test = Launcher(kind, 1, 4, 'gpu', ROOT / 'tools').commands(trial)
    file, folder = str(tmp_path / 'EAN/seed3.py'), str(tmp_path / 'EAN/seed3')
    script = dict(none='train.py', torchrun='dist_train.sh', slurm='slurm_train.sh')[kind]
    assert (
        any(part.endswith(script) for part in train) and file in train and folder in train and train[-1] == '--resume'
    )
    assert test[-4:] == ['--out', f'{folder}/predictions.json', '--work-dir', f'{folder}/test']
    if kind == 'torchrun':
        assert train[2:4] == [file, '4'] and test[2:5] == [file, '{checkpoint}', '4']
    elif kind == 'slurm':
        assert train[2:6] == ['gpu', 'EAN_seed_3', file, folder] and test[2:6] == [
            'gpu',
            'EAN_seed_3',
            file,
            '{checkpoint}',
        ]


class Trained(Launcher):
    """A run that is trained at once; its test reads the checkpoint's name."""

    def commands(self, trial):
        out = str(trial.predictions.with_suffix('.info.json'))
        test = f'from pathlib import Path; Path({out!r}).write_text(\'{{"metrics": {{}}}}\')'
        return [[sys.executable, '-c', 'pass'], [sys.executable, '-c', test, '{checkpoint}']]


def run_once(trial, lines):
    runner = Runner(Trained('none', 1, 1, '', ROOT / 'tools'), lines.append)
    runner.run([trial])
    return runner


@pytest.mark.parametrize('share', [0, 0.5])
def test_the_time_of_a_run_is_known_where_it_was_not_stopped(share, variants, tmp_path, monkeypatch):
    trial = make_trials(variants, [0], tmp_path)[0]
    trial.folder.mkdir(parents=True)
    torch.save(dict(state_dict=dict(x=torch.ones(1)), optimizer={}), trial.folder / 'iter_6.pth')
    monkeypatch.setattr(type(trial), 'share', lambda trial: share)
    lines = []
    assert not run_once(trial, lines).failed
    seconds = trial.done()['seconds']
    assert seconds is None if share else 0 < seconds < 60
    assert lines[0] == f'none, seed 0: {"goes on" if share else "begins"}'


def test_a_run_without_a_checkpoint_says_so(variants, tmp_path):
    trial = make_trials(variants, [0], tmp_path)[0]
    assert run_once(trial, []).failed == {'none, seed 0': trial.folder / 'log.txt'}
    assert f'error: {trial.folder} has no checkpoint' in (trial.folder / 'log.txt').read_text()
