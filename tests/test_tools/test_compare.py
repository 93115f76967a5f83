"""The comparison in one command, on a detector that trains in seconds."""

import argparse
import json
import os
import re
import runpy
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS

from ean_mmdet.errors import InputError
from ean_mmdet.evaluation.trials import Launcher, Runner, Trial
from tests.conftest import ROOT
from tests.test_tools.tiny import write_config

pytestmark = pytest.mark.slow


@pytest.fixture(scope='module')
def compared(tmp_path_factory, sample_data, run_tool):
    folder = tmp_path_factory.mktemp('compared')
    tiny = write_config(folder, sample_data)
    arguments = [tiny, '--attention', 'none', 'EAN(groups=8)', '--seeds', '1', '--work-dir', folder / 'work',
                 '--learning-rates', '0.004', '--cfg-options', 'train_cfg.val_begin=1']  # fmt: skip
    return arguments, folder / 'work', run_tool('compare.py', *arguments)


def test_a_table_a_plot_and_a_page(compared):
    _, work, result = compared
    text = (work / 'comparison.md').read_text()
    assert '| network | seeds | mean ± standard deviation | difference to none, 95 % interval |' in text
    data = json.loads((work / 'comparison.json').read_text())
    plain, ean = data['networks']
    assert (data['reference'], data['metric'], data['images']) == ('none', 'coco/bbox_mAP', 8)
    assert ean['difference']['low'] <= ean['difference']['mean'] <= ean['difference']['high']
    assert int(ean['cost']['params'].replace(',', '')) > int(plain['cost']['params'].replace(',', ''))
    assert set(data['protocol']) == {'network', 'data', 'schedule', 'versions', 'code'}
    page = (work / 'comparison.html').read_text()
    assert 'Protocol' in page and 'data:image/svg+xml' in page and (work / 'comparison.png').stat().st_size > 5000
    said = json.loads((work / 'none/seed0/predictions.info.json').read_text())['metrics']['coco/bbox_mAP']
    assert plain['mean'] == pytest.approx(said, abs=6e-4)
    assert 'EAN_groups8, seed 0: done (2 of 2 runs done' in result.stdout


def test_a_learning_rate_is_chosen_on_held_out_training_images(compared):
    _, work, result = compared
    assert re.search(r'none\s*│\s*0\.004 │\s*0\.\d+ │ chosen', result.stdout)
    pilot = Config.fromfile(work / 'rates/none_lr0.004.py')
    held_out = pilot.test_dataloader.dataset
    assert (pilot.train_dataloader.dataset.dataset.part, held_out.part) == ('train', 'held_out')
    tested = {entry['image_id'] for entry in json.loads((work / 'rates/none_lr0.004/predictions.json').read_text())}
    trained = json.loads(Path(held_out.dataset.data_root, held_out.dataset.ann_file).read_text())['images']
    assert len(tested) == round(0.1 * len(trained)) and tested < {entry['id'] for entry in trained}
    assert all(Config.fromfile(work / f'{name}/seed0.py').optim_wrapper.optimizer.lr == 0.004
               for name in ('none', 'EAN_groups8'))  # fmt: skip
    assert '<h2>Learning rates</h2>' in (work / 'comparison.html').read_text()


def test_what_is_done_is_not_done_again(compared, run_tool):
    arguments, work, _ = compared
    before = (work / 'comparison.md').read_text()
    result = run_tool('compare.py', *arguments)
    assert 'begins' not in result.stdout and (work / 'comparison.md').read_text() == before
    plan = run_tool('compare.py', *arguments[:-2], '--dry-run')
    assert re.search(r'none\s*│\s*2 │\s*2 │', plan.stdout) and 'minutes in all' in plan.stdout


def test_runs_of_another_protocol_are_refused_by_name(compared, run_tool):
    arguments, work, _ = compared
    result = run_tool('compare.py', *arguments, 'train_cfg.max_iters=7', check=False)
    assert result.returncode == 2 and 'Traceback' not in result.stderr
    assert re.search(
        r'error: none, rate 0\.004 .*another protocol.*schedule: train_cfg.max_iters was 6, is 7', result.stderr
    )
    done = work / 'EAN_groups8/seed0/done.json'
    kept = done.read_text()
    other = json.loads(kept)
    other['protocol']['code'] = dict(ean_mmdet='x')
    done.write_text(json.dumps(other))
    result = run_tool('compare.py', *arguments, check=False)
    assert result.returncode == 2 and re.search('EAN_groups8, seed 0 .*code: ean_mmdet was x', result.stderr)
    done.write_text(kept)


def test_a_run_that_fails_is_named(compared, run_tool):
    arguments, work, _ = compared
    (work / 'EAN_groups8/seed0').rename(work / 'kept')
    broken = work / 'EAN_groups8/seed0'
    (broken / 'test').mkdir(parents=True)
    (broken / 'last_checkpoint').write_text(str(work / 'cut.pth'))
    (work / 'cut.pth').write_bytes(b'PK')
    result = run_tool('compare.py', *arguments, check=False)
    assert result.returncode == 1
    text = (work / 'comparison.md').read_text()
    assert 'EAN_groups8 has no mean: seed 0 is missing.' in text and 'EAN_groups8, seed 0 failed, see' in text
    assert 'EAN_groups8: nothing can be said against none.' in text


class Sleeping(Launcher):
    def commands(self, trial):
        return [[sys.executable, '-c', f'import time; print({trial.seed}, flush=True); time.sleep(60)']]


def test_a_stop_ends_what_runs(tmp_path):
    trials = [Trial('none', seed, Config({}), tmp_path / f'seed{seed}') for seed in range(3)]
    runner = Runner(Sleeping('none', 2, 1, '', ROOT / 'tools'), lambda line: None)

    def stop(*args):
        raise KeyboardInterrupt

    signal.signal(signal.SIGALRM, stop)
    signal.alarm(3)
    begin = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        runner.run(trials)
    assert time.monotonic() - begin < 30 and not runner.failed
    assert not subprocess.run(['pgrep', '-f', 'time.sleep(60)'], capture_output=True).stdout
    assert [(tmp_path / f'seed{seed}/log.txt').is_file() for seed in range(3)] == [True, True, False]


FAKE_SRUN = """#!{python}
import json, sys
from pathlib import Path

arguments = sys.argv[1:]
with open({log!r}, 'a') as log:
    print(json.dumps(arguments), file=log)
if '--out' in arguments:
    out = Path(arguments[arguments.index('--out') + 1])
    out.write_text('[]')
    out.with_suffix('.info.json').write_text(json.dumps(dict(metrics=dict(mAP=0.5))))
"""


def test_slurm_gets_each_run_and_its_test(tmp_path, monkeypatch):
    (tmp_path / 'bin').mkdir()
    srun = tmp_path / 'bin/srun'
    srun.write_text(FAKE_SRUN.format(python=sys.executable, log=str(tmp_path / 'calls')))
    srun.chmod(0o755)
    monkeypatch.setenv('PATH', f'{tmp_path}/bin:{os.environ["PATH"]}')
    monkeypatch.setenv('GPUS', '2')
    trial = Trial('EAN', 3, Config(dict(model=dict(type='x'))), tmp_path / 'EAN/seed3')
    trial.folder.mkdir(parents=True)
    torch.save(dict(state_dict=dict(x=torch.ones(1)), optimizer={}), trial.folder / 'iter_6.pth')
    (trial.folder / 'last_checkpoint').write_text(str(trial.folder / 'iter_6.pth'))
    lines = []
    runner = Runner(Launcher('slurm', 1, 1, 'gpu', ROOT / 'tools'), lines.append)
    monkeypatch.setattr('ean_mmdet.evaluation.trials.protocol', lambda trial: {})
    runner.run([trial])
    assert not runner.failed and trial.done()['metrics'] == dict(mAP=0.5) and 'EAN, seed 3: done' in lines
    train, test = map(json.loads, (tmp_path / 'calls').read_text().splitlines())
    for call in (train, test):
        assert call[:4] == ['-p', 'gpu', '--job-name=EAN_seed_3', '--ntasks=2'] and '--gres=gpu:2' in call
        assert f'{sys.prefix}/bin/python' in call and call[-1] and '--launcher' in call and 'slurm' in call
    assert str(ROOT / 'tools/train.py') in train and train[-1] == '--resume'
    assert str(trial.folder / 'iter_6.pth') in test and str(trial.predictions) in test


def test_networks_of_a_warm_start_compute_the_same(tmp_path, sample_data):
    tool = runpy.run_path(str(ROOT / 'tools' / 'compare.py'))
    plain = MODELS.build(dict(type='MobileNeXt', widen_factor=0.25, last_channels=320))
    torch.save(plain.state_dict(), tmp_path / 'plain.pth')
    args = argparse.Namespace(
        config=str(write_config(tmp_path, sample_data)), cfg_options=None, scratch=False,
        attention=['none', 'EAN(groups=8)', 'SE'], controls=['half', 'constant'],
        warm_start=str(tmp_path / 'plain.pth'),
    )  # fmt: skip
    features = {}
    for variant in tool['networks'](args):
        backbone = MODELS.build(variant.config.model.backbone)
        backbone.init_weights()
        backbone.eval()
        with torch.no_grad():
            features[variant.name] = backbone(torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0)))
    assert len(features) == 5
    args.controls = ['wider']
    with pytest.raises(InputError, match=r'wider: no wider backbone fits .*plain\.pth'):
        tool['networks'](args)
    for name, maps in features.items():
        for actual, expected in zip(maps, features['none']):
            torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-5, msg=name)
