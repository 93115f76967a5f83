import shutil

import pytest

from tests.test_tools.tiny import write_config

pytestmark = pytest.mark.slow


def test_every_split_is_reported(sample_data, tmp_path, run_tool):
    data = shutil.copytree(sample_data, tmp_path / 'data')
    config = write_config(tmp_path, data)
    result = run_tool('check_data.py', config, '--decode', EAN_CACHE=str(tmp_path / 'cache'))
    assert [line.split(',')[0] for line in result.stdout.splitlines()[-3:]] == [
        'train: good: 24 images',
        'val: good: 8 images',
        'test: good: 8 images',
    ]
    (data / 'JPEGImages/000001.jpg').write_bytes(b'')
    result = run_tool('check_data.py', config, check=False, EAN_CACHE=str(tmp_path / 'cache'))
    assert result.returncode == 2 and 'Traceback' not in result.stderr
    assert '1 empty' in result.stdout and '1 of the data sets cannot be used' in result.stderr


def test_no_check_starts_at_once(sample_data, tmp_path, run_tool):
    data = shutil.copytree(sample_data, tmp_path / 'data')
    (data / 'JPEGImages/000001.jpg').unlink()
    config = write_config(tmp_path, data, iterations=1)
    options = ('--work-dir', tmp_path / 'run', '--cfg-options', 'broken_images.on_error=skip')
    result = run_tool('train.py', config, *options, check=False)
    assert 'error: train data: 1 of the 24 images' in result.stderr
    run_tool('train.py', config, '--no-check', *options)


def test_a_config_without_data(tmp_path, run_tool):
    (tmp_path / 'empty.py').write_text("model = dict(type='EAN', in_channels=64)\n")
    result = run_tool('check_data.py', tmp_path / 'empty.py', check=False)
    assert result.returncode == 2 and 'has no data to check' in result.stderr
