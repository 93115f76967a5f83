"""tools/new_config.py as a user runs it: real processes, from a folder to a config and to a page."""

import re
import shlex
import shutil
from pathlib import Path

import pytest

from ean_mmdet.engine import load_config
from tests.test_own_data.conftest import classes, train  # noqa: F401, fixtures
from tests.test_own_data.exports import yolo_label_studio

pytestmark = pytest.mark.slow


@pytest.fixture
def data(train, classes, tmp_path) -> Path:  # noqa: F811
    return yolo_label_studio(tmp_path / 'my data', train, classes)


def test_the_screen_says_what_comes_next_and_how_long_it_takes(data, tmp_path, run_tool):
    out = tmp_path / 'mine.py'
    command = (data, '--out', out, '--attention', 'EAN', '--input-size', 64)
    text = run_tool('new_config.py', *command).stdout
    for line in ('no split in the data', 'circle', 'imbalance: ', 'GiB free', 's an iteration', '8 images are few'):
        assert line in re.sub(r'[\s│]+', ' ', text), line
    following = [line.split()[1] for line in text.splitlines() if line.strip().startswith('python tools/')]
    assert following == ['tools/train.py', 'tools/test.py', 'tools/report.py']
    assert out.with_suffix('.jpg').stat().st_size > 10_000
    first = out.read_bytes()
    again = run_tool('new_config.py', *command, check=False)
    assert again.returncode == 2 and 'mine.py is there already; --force overwrites it' in again.stderr
    run_tool('new_config.py', *command, '--force')
    assert out.read_bytes() == first
    assert load_config(str(out)).train_dataloader.batch_size == 2


def test_what_is_wrong_is_a_line(data, tmp_path, run_tool):
    shutil.rmtree(data / 'labels')
    result = run_tool('new_config.py', data, '--out', tmp_path / 'mine.py', check=False)
    assert result.returncode == 2 and 'Traceback' not in result.stderr
    assert 'error: ' in result.stderr and 'no annotations in COCO, VOC or YOLO format' in result.stderr
    result = run_tool('new_config.py', data, '--splits', 'train', check=False)
    assert 'error: --splits train: it takes ROLE=NAME' in result.stderr


@pytest.mark.slow
def test_the_commands_that_come_next_lead_to_a_page(data, tmp_path, run_tool):
    out, run_dir = tmp_path / 'mine.py', tmp_path / 'run'
    options = ('--input-size', 64, '--batch-size', 2, '--iterations', 4, '--no-rehearsal', '--work-dir', run_dir)
    text = run_tool('new_config.py', data, '--out', out, *options).stdout
    for line in text.splitlines():
        if line.strip().startswith('python tools/'):
            name, *arguments = shlex.split(line.strip().removeprefix('python tools/'))
            run_tool(name, *arguments)
    assert (run_dir / 'iter_4.pth').is_file()
    page = (run_dir / 'report.html').read_text()
    assert 'mAP' in page and 'circle' in page


@pytest.mark.slow
def test_train_ends_where_a_step_fails(data, tmp_path, run_tool):
    (tmp_path / 'file').write_text('no folder')
    options = ('--from', 'none', '--no-rehearsal', '--iterations', 4, '--train', '--work-dir', tmp_path / 'file/run')
    result = run_tool('new_config.py', data, '--out', tmp_path / 'mine.py', *options, check=False)
    assert result.returncode and 'file/run' in result.stderr
    assert 'Train failed; its output is above.' in result.stdout and 'Evaluate' not in result.stdout


def test_a_broken_checkpoint_is_told_before_training(data, tmp_path, run_tool):
    (tmp_path / 'no.pth').write_text('no checkpoint')
    options = ('--from', tmp_path / 'no.pth', '--no-rehearsal', '--train', '--work-dir', tmp_path / 'run')
    result = run_tool('new_config.py', data, '--out', tmp_path / 'mine.py', *options, check=False)
    assert result.returncode and 'no.pth' in result.stderr and 'Traceback' not in result.stderr
    assert not (tmp_path / 'mine.py').exists() and not (tmp_path / 'run').exists()
