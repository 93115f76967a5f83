"""One fault of each kind that a campaign once found, on real files in real processes; ``tests/fault_campaign.py`` has
hundreds."""

import json
import shutil
import socket

import pytest
import torch

from ean_mmdet.checkpoint import load_local
from tests.conftest import ROOT
from tests.test_tools.tiny import write_config

pytestmark = pytest.mark.slow


@pytest.fixture(scope='module')
def config(tmp_path_factory, sample_data):
    return write_config(tmp_path_factory.mktemp('config'), sample_data)


@pytest.fixture(scope='module')
def trained(tmp_path_factory, config, run_tool):
    work_dir = tmp_path_factory.mktemp('trained')
    run_tool('train.py', config, '--work-dir', work_dir)
    return work_dir


@pytest.fixture
def spoiled(tmp_path, sample_data):
    """A config on a copy of the data, and the copy."""
    data = shutil.copytree(sample_data, tmp_path / 'data')
    return write_config(tmp_path, data), data


def refuses(result, *messages):
    assert result.returncode == 2, result.stderr[-2000:]
    (line,) = (line for line in result.stderr.splitlines() if line.startswith('error: '))
    assert 'Traceback' not in result.stderr
    for message in messages:
        assert message in line


def test_1_a_checkpoint_of_another_width(config, trained, tmp_path, run_tool):
    wide = tmp_path / 'wide.py'
    wide.write_text(
        f'_base_ = {str(config)!r}\n'
        'channels = (144, 288, 640, 64)\n'
        'model = dict(backbone=dict(widen_factor=0.5, last_channels=640),\n'
        '    neck=dict(in_channels=channels[:3], out_channels=channels),\n'
        '    bbox_head=dict(in_channels=channels))\n'
    )
    result = run_tool('test.py', wide, trained / 'iter_6.pth', '--work-dir', tmp_path, check=False)
    refuses(result, 'iter_6.pth', 'another width')


def test_2_annotations_that_make_a_run_wrong(spoiled, tmp_path, run_tool):
    config, data = spoiled
    file = data / 'annotations/instances_train.json'
    content = json.loads(file.read_text())
    content['images'][3]['id'] = content['images'][2]['id']
    content['annotations'][0]['bbox'][2] = float('nan')
    file.write_text(json.dumps(content))
    result = run_tool('train.py', config, '--work-dir', tmp_path / 'run', check=False)
    refuses(result, '1 image ids given twice', '1 boxes with NaN or infinity')


def test_3_and_8_images_of_one_name_and_a_bad_one_between(config, trained, sample_data, tmp_path, run_tool):
    images = tmp_path / 'images'
    images.mkdir()
    shutil.copy(sample_data / 'JPEGImages/000001.jpg', images / 'a.jpg')
    shutil.copy(sample_data / 'JPEGImages/000002.jpg', images / 'a.png')
    (images / 'b.jpg').touch()
    out = tmp_path / 'out'
    result = run_tool('infer.py', images, config, trained / 'iter_6.pth', '--out-dir', out, check=False)
    refuses(result, '1 of the 3 files', 'b.jpg is empty')
    assert len(list((out / 'vis').iterdir())) == 2
    assert [image['file_name'] for image in json.loads((out / 'detections.json').read_text())['images']] == [
        'a.jpg',
        'a.png',
    ]


def test_4_images_that_cannot_be_read(spoiled, tmp_path, run_tool):
    config, data = spoiled
    images = data / 'JPEGImages'
    (images / '000001.jpg').write_bytes(b'')
    (images / '000002.jpg').write_text('an error page')
    (images / '000003.jpg').unlink()
    (images / '000003.jpg').symlink_to('000003.jpg')
    result = run_tool('train.py', config, '--work-dir', tmp_path / 'run', check=False)
    refuses(result, '3 of the 24 images', '1 empty', '1 no image', '1 unreadable')


def test_5_and_7_a_full_disk_loses_nothing(config, trained, tmp_path, run_tool, fork_server):
    run = tmp_path / 'run'
    shutil.copytree(trained, run)
    before = (run / 'iter_6.pth').read_bytes()
    arguments = ('--work-dir', run, '--resume', '--cfg-options', 'train_cfg.max_iters=9')
    options = 'default_hooks.checkpoint.max_keep_ckpts=1'
    result = fork_server.run(ROOT / 'tools/train.py', config, *arguments, options, file_size=len(before) // 2)
    refuses(result, 'could not write a checkpoint', 'The older ones are intact')
    assert (run / 'iter_6.pth').read_bytes() == before
    assert not list(run.glob('*partial*'))
    run_tool('train.py', config, *arguments)
    assert load_local(str(run / 'iter_9.pth'))['meta']['iter'] == 9


def test_6_resumes_from_the_newest_that_is_whole(config, trained, tmp_path, run_tool):
    run = shutil.copytree(trained, tmp_path / 'run')
    damaged = bytearray((run / 'iter_6.pth').read_bytes())
    middle = len(damaged) // 2
    damaged[middle : middle + 4096] = bytes(4096)
    (run / 'iter_6.pth').write_bytes(damaged)
    (run / 'last_checkpoint').write_text(str(run / 'iter_6.pth'))
    result = run_tool('train.py', config, '--work-dir', run, '--resume')
    assert 'resumed epoch: 0, iter: 3' in result.stdout + result.stderr


@pytest.mark.parametrize(
    'content',
    [['a list'], dict(state_dict=None), {1: torch.zeros(2)}, dict(state_dict={'x': 1}, message_hub='x')],
    ids=['list', 'None', 'numbers', 'no tensors'],
)
def test_9_checkpoints_of_another_structure(content, config, tmp_path, run_tool):
    path = tmp_path / 'other.pth'
    torch.save(content, path)
    refuses(run_tool('test.py', config, path, '--work-dir', tmp_path, check=False), 'other.pth')


@pytest.mark.parametrize(
    ('part', 'key', 'value', 'message'),
    [
        ('categories', 'id', [1], 'id is not a whole number or a string'),
        ('images', 'height', 'x', 'height is not a whole number from 1 on'),
        ('annotations', 'category_id', {}, 'annotations whose category_id is not a whole number or a string'),
        ('annotations', 'iscrowd', 7, 'iscrowd is not 0 or 1'),
        (None, 'categories', 0.5, 'its categories must be a list of objects, got 0.5'),
    ],
)
def test_9_annotations_of_wrong_types(part, key, value, message, spoiled, tmp_path, run_tool):
    config, data = spoiled
    file = data / 'annotations/instances_val.json'
    content = json.loads(file.read_text())
    (content[part][0] if part else content)[key] = value
    file.write_text(json.dumps(content))
    refuses(run_tool('train.py', config, '--work-dir', tmp_path / 'run', check=False), message)


def test_9_a_port_that_is_taken(config, tmp_path, run_tool):
    with socket.create_server(('', 0)) as server:
        port = str(server.getsockname()[1])
        result = run_tool('dist_train.sh', config, 2, '--work-dir', tmp_path, check=False, PORT=port)
    refuses(result, f'port {port} cannot be listened on', 'Set PORT')


def test_9_any_other_error_ends_in_a_line_and_its_traceback_in_a_file(config, tmp_path, run_tool):
    options = ('--cfg-options', 'param_scheduler.0.end=x')
    result = run_tool('train.py', config, '--work-dir', tmp_path, *options, check=False)
    assert result.returncode == 1 and 'Traceback' not in result.stderr
    line = result.stderr.rstrip().splitlines()[-1]
    assert line.startswith('error: TypeError: ') and 'param_scheduler.py' in line
    (file,) = tmp_path.glob('traceback_*.txt')
    assert str(file) in line and 'Traceback' in file.read_text()
