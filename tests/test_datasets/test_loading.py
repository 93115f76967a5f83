"""Loading in real runs whose images break after they were checked."""

import shutil

import pytest

from ean_mmdet.datasets import GuardedLoadImageFromFile
from ean_mmdet.errors import InputError
from tests.test_tools.tiny import write_config


@pytest.fixture
def broken(tmp_path, sample_data):
    """A config whose second training image is emptied when training begins, by a hook of its own."""
    data = shutil.copytree(sample_data, tmp_path / 'data')
    config = write_config(tmp_path, data)
    (tmp_path / 'empty_image.py').write_text(
        'from mmengine.hooks import Hook\n'
        'from mmengine.registry import HOOKS\n'
        '@HOOKS.register_module()\n'
        'class EmptyImage(Hook):\n'
        '    def __init__(self, path):\n'
        '        self.path = path\n'
        '    def before_run(self, runner):\n'
        "        open(self.path, 'w').close()\n"
    )

    def write(choice, image=2, workers=0):
        path = tmp_path / 'broken.py'
        path.write_text(
            f'_base_ = {str(config)!r}\n'
            "custom_imports = dict(imports=['ean_mmdet', 'empty_image'])\n"
            "custom_hooks = [dict(type='SafeCheckpointHook'),\n"
            f"    dict(type='EmptyImage', path={str(data / f'JPEGImages/{image:06d}.jpg')!r})]\n"
            f'{choice}\n'
            f'train_dataloader = dict(num_workers={workers})\n'
            'train_cfg = dict(max_iters=12, val_interval=12)\n'
        )
        return path

    return write


def train(run_tool, config, tmp_path, check):
    return run_tool('train.py', config, '--work-dir', tmp_path / 'run', check=check, PYTHONPATH=str(tmp_path))


@pytest.mark.slow
@pytest.mark.parametrize('workers', [0, 1])
def test_stops_and_names_the_image(broken, tmp_path, run_tool, workers):
    result = train(run_tool, broken('', workers=workers), tmp_path, check=False)
    assert result.returncode == 2, result.stderr[-2000:]
    line = result.stderr.rstrip().rpartition('\n')[2]
    assert line.startswith('error: the image ') and '000002.jpg cannot be read' in line
    assert (tmp_path / 'run/iter_3.pth').is_file()


@pytest.mark.slow
def test_skips_and_counts_it(broken, tmp_path, run_tool):
    config = broken("broken_images = dict(on_error='skip', limit=3)", workers=1)
    result = train(run_tool, config, tmp_path, check=True)
    assert '000002.jpg cannot be read' in result.stdout + result.stderr
    assert 'Left out (1 of at most 3)' in result.stdout + result.stderr
    assert (tmp_path / 'run/iter_12.pth').is_file()


@pytest.mark.slow
def test_never_leaves_out_an_image_to_evaluate_on(broken, tmp_path, run_tool):
    config = broken("broken_images = dict(on_error='skip', limit=3)", image=26)
    result = train(run_tool, config, tmp_path, check=False)
    assert result.returncode == 2 and '000026.jpg cannot be read' in result.stderr


def test_arguments():
    with pytest.raises(ValueError, match="on_error must be one of stop, skip, got 'ignore'"):
        GuardedLoadImageFromFile(on_error='ignore')
    with pytest.raises(ValueError, match='limit must be a number from 1 on, got 0'):
        GuardedLoadImageFromFile(limit=0)


def test_no_more_than_the_limit(tmp_path):
    load = GuardedLoadImageFromFile(on_error='skip', limit=2)
    missing = dict(img_path=str(tmp_path / 'missing.jpg'))
    assert load(dict(missing)) is None and load(dict(missing)) is None
    with pytest.raises(InputError, match=r'missing\.jpg cannot be read.* 2 were left out already, the limit'):
        load(dict(missing))
