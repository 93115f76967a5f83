"""The command lines as a user runs them: real processes, one and two, on the CPU."""

import json
import shutil
import socket

import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import InfiniteSampler

from tests.conftest import ROOT
from tests.test_tools.tiny import write_config

pytestmark = pytest.mark.slow

MAP_KEYS = ('coco/bbox_mAP', 'coco/bbox_mAP_50', 'coco/bbox_mAP_75')


def free_port() -> str:
    with socket.socket() as server:
        server.bind(('127.0.0.1', 0))
        return str(server.getsockname()[1])


def weights(path):
    return torch.load(path, map_location='cpu', weights_only=True)['state_dict']


def metrics(work_dir) -> list[float]:
    (run,) = [path for path in work_dir.glob('2*') if path.is_dir()]
    content = json.loads((run / f'{run.name}.json').read_text())
    return [content[key] for key in MAP_KEYS]


@pytest.fixture(scope='module')
def tiny(tmp_path_factory, sample_data):
    return write_config(tmp_path_factory.mktemp('config'), sample_data)


@pytest.fixture(scope='module')
def trained(tmp_path_factory, tiny, run_tool):
    """Six iterations in one process."""
    work_dir = tmp_path_factory.mktemp('trained')
    result = run_tool('train.py', tiny, '--work-dir', work_dir)
    assert f'Checkpoints and logs are in {work_dir}' in result.stdout + result.stderr
    return work_dir


def test_train_writes_what_it_says(trained):
    assert {path.name for path in trained.glob('*.pth')} >= {'iter_3.pth', 'iter_6.pth'}
    assert Config.fromfile(trained / 'tiny.py').model.backbone.type == 'EANMobileNeXt'
    assert torch.load(trained / 'iter_6.pth', weights_only=True)['meta']['iter'] == 6


def test_a_resumed_run_ends_as_one_that_never_stopped(trained, tiny, tmp_path, run_tool):
    shutil.copy(trained / 'iter_3.pth', tmp_path)
    (tmp_path / 'last_checkpoint').write_text(str(tmp_path / 'iter_3.pth'))
    output = run_tool('train.py', tiny, '--work-dir', tmp_path, '--resume')
    text = output.stdout + output.stderr
    assert 'resumed epoch: 0, iter: 3' in text
    mine, theirs = (torch.load(path / 'iter_6.pth', weights_only=True) for path in (tmp_path, trained))
    assert mine['meta']['iter'] == theirs['meta']['iter'] == 6
    if hasattr(InfiniteSampler, 'skip'):
        pytest.skip("OneDL's fork does not load the images that it skips: the same images follow, augmented otherwise")
    for key, value in theirs['state_dict'].items():
        torch.testing.assert_close(mine['state_dict'][key], value, rtol=1e-4, atol=1e-5)
    rates, losses = (
        [checkpoint['message_hub']['log_scalars'][name]['log_history'] for checkpoint in (mine, theirs)]
        for name in ('train/lr', 'train/loss')
    )
    torch.testing.assert_close(*rates)
    # the same losses only if the same images came in the same order
    torch.testing.assert_close(*losses, rtol=1e-3, atol=1e-4)


@pytest.fixture(scope='module')
def tested(tmp_path_factory, trained, tiny, run_tool):
    work_dir = tmp_path_factory.mktemp('tested')
    predictions = work_dir / 'predictions.json'
    run_tool(
        'test.py', tiny, trained / 'iter_6.pth', '--work-dir', work_dir, '--out', predictions, '--show-dir', 'pictures'
    )
    return work_dir


def test_test_writes_metrics_predictions_and_pictures(tested):
    assert all(0 <= value <= 1 for value in metrics(tested))
    entries = json.loads((tested / 'predictions.json').read_text())
    assert len(entries) == 8 * 20 and set(entries[0]) == {'image_id', 'category_id', 'bbox', 'score'}
    info = json.loads((tested / 'predictions.info.json').read_text())
    assert info['checkpoint'].endswith('iter_6.pth') and info['config'].endswith('tiny.py')
    assert [info['metrics'][key] for key in MAP_KEYS] == pytest.approx(metrics(tested))
    assert len(list(tested.glob('2*/pictures/*.jpg'))) == 8


def test_two_processes_end_with_the_same_weights_and_map(trained, tiny, tested, tmp_path, run_tool):
    dump = tmp_path / 'dump.py'
    # each rank writes what it ended with
    dump.write_text(
        'import os, torch\n'
        'from mmengine.hooks import Hook\n'
        'from mmengine.registry import HOOKS\n'
        '@HOOKS.register_module()\n'
        'class DumpWeights(Hook):\n'
        '    def after_train(self, runner):\n'
        f'        path = {str(tmp_path)!r} + "/rank" + os.environ["RANK"] + ".pt"\n'
        '        torch.save(dict(runner.model.module.named_parameters()), path)\n'
    )
    config = tmp_path / 'two.py'
    config.write_text(
        f'_base_ = {str(tiny)!r}\n'
        "custom_imports = dict(imports=['ean_mmdet', 'dump'])\n"
        "custom_hooks = [dict(type='SafeCheckpointHook'), dict(type='DumpWeights')]\n"
    )
    work_dir = tmp_path / 'run'
    environment = dict(PORT=free_port(), PYTHONPATH=str(tmp_path))
    result = run_tool('dist_train.sh', config, 2, '--work-dir', work_dir, '--auto-scale-lr', **environment)
    first, second = (torch.load(tmp_path / f'rank{rank}.pt') for rank in range(2))
    assert first.keys() == second.keys()
    for key, value in first.items():
        assert torch.equal(value, second[key]), key
    saved = weights(work_dir / 'iter_6.pth')
    assert all(torch.equal(saved[key], value) for key, value in first.items())
    assert 'GPU number: 2' in result.stdout + result.stderr or 'world_size' in result.stdout + result.stderr
    assert not all(torch.equal(weights(trained / 'iter_6.pth')[key], value) for key, value in first.items())

    run_tool('dist_test.sh', tiny, trained / 'iter_6.pth', 2, '--work-dir', tmp_path / 'test', PORT=free_port())
    assert metrics(tmp_path / 'test') == pytest.approx(metrics(tested), abs=1e-6)


@pytest.mark.skipif(torch.cuda.is_available(), reason='a GPU is here')
def test_amp_without_a_gpu_says_so(tiny, run_tool):
    result = run_tool('train.py', tiny, '--amp', check=False)
    assert result.returncode == 2 and 'error: --amp needs a GPU' in result.stderr


def test_test_time_augmentation(trained, tiny, tmp_path, run_tool):
    """Flipping by hand, as MMDetection's docs have it, and by --tta with a bare PackDetInputs inside a wrapper."""
    whole = (
        "pack = dict(type='PackDetInputs', meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor', "
        "'flip', 'flip_direction'))\n"
        "flips = [dict(type='RandomFlip', prob=1.0), dict(type='RandomFlip', prob=0.0)]\n"
        "tta_pipeline = [*test_pipeline[:-1], dict(type='TestTimeAug', transforms=[flips, [pack]])]\n"
        "tta_model = dict(type='DetTTAModel', tta_cfg=dict(nms=dict(type='nms', iou_threshold=0.5), max_per_img=100))\n"
    )
    bare = (
        "test_pipeline[-1] = dict(type='PackDetInputs')\n"
        'whole = dict(_base_.val_dataloader.dataset, data_root=data_root, pipeline=test_pipeline)\n'
        'test_dataloader = dict(\n'
        '    batch_size=2, num_workers=0, persistent_workers=False,\n'
        "    dataset=dict(_delete_=True, type='ConcatDataset', datasets=[whole]),\n"
        ')\n'
    )
    for name, text in (('whole', whole), ('bare', bare)):
        config = tmp_path / f'{name}.py'
        config.write_text(tiny.read_text() + text)
        run_tool('test.py', config, trained / 'iter_6.pth', '--work-dir', tmp_path / name, '--tta')
    assert len(metrics(tmp_path / 'bare')) == 3 and metrics(tmp_path / 'bare') == metrics(tmp_path / 'whole')


@pytest.mark.parametrize('tool', ['train', 'test'])
def test_mmdetections_own_tools_run_our_configs(tool, trained, tiny, tmp_path, run_tool):
    import mmdet

    script = f'{mmdet.__path__[0]}/.mim/tools/{tool}.py'
    checkpoint = [trained / 'iter_6.pth'] if tool == 'test' else []
    run_tool(script, tiny, *checkpoint, '--work-dir', tmp_path)
    assert (tmp_path / 'iter_6.pth').is_file() if tool == 'train' else len(metrics(tmp_path)) == 3


@pytest.mark.parametrize(
    'tool,arguments,message',
    [
        ('train.py', ['configs/ssdlite320_ean_mobilenext_coc.py'], 'did you mean configs/ssdlite320_ean'),
        ('train.py', ['{tiny}', '--cfg-options', 'train_dataloader.dataset.data_root=/nowhere'], 'no folder /nowhere'),
        ('train.py', ['{tiny}', '--cfg-options', 'modle.backbone.groups=3'], 'nothing reads modle; did you mean model'),
        ('test.py', ['{tiny}', '{trained}/iter_6.pth', '--cfg-options', 'data_root=/nowhere/'],
         'test_dataloader.dataset.data_root=/nowhere/'),
        ('train.py', ['{tiny}', '--cfg-options', 'train_dataloader.dataset.ann_file=annotations/no.json'], 'no.json'),
        ('train.py', ['{tiny}', '--resume', '{trained}/iter_4.pth'], 'no checkpoint at .*iter_4'),
        ('train.py', ['{tiny}', '--resume', '{truncated}'], 'truncated'),
        ('test.py', ['{tiny}', '{foreign}'], 'has no weight in common with this SingleStageDetector'),
        ('test.py', ['{tiny}', '{trained}/iter_6.pth', '--out', 'x.pkl'], 'must end in .json'),
        ('infer.py', ['/nowhere.jpg', '{tiny}', '{trained}/iter_6.pth'], '/nowhere.jpg is neither an image nor a'),
        ('infer.py', ['{data}/JPEGImages', '{tiny}', '{foreign}'], 'has no weight in common'),
    ],
)  # fmt: skip
def test_bad_input_ends_in_one_plain_message(tool, arguments, message, trained, tiny, sample_data, tmp_path, run_tool):
    import re

    truncated, foreign = tmp_path / 'truncated.pth', tmp_path / 'foreign.pth'
    truncated.write_bytes((trained / 'iter_6.pth').read_bytes()[:5000])
    torch.save({'some.weight': torch.zeros(3)}, foreign)
    names = dict(tiny=tiny, trained=trained, truncated=truncated, foreign=foreign, data=sample_data)
    arguments = [argument.format(**names) for argument in arguments]
    if tool != 'infer.py':
        arguments += ['--work-dir', str(tmp_path / 'run')]
    result = run_tool(tool, *arguments, check=False)
    assert result.returncode == 2
    assert re.search(r'error: .*' + message, result.stderr), result.stderr[-2000:]
    assert 'Traceback' not in result.stderr
    assert not list(tmp_path.glob('run/*.pth'))


def test_launchers_say_how_they_are_used(run_tool):
    for tool in ('dist_train.sh', 'dist_test.sh', 'slurm_train.sh', 'slurm_test.sh'):
        result = run_tool(tool, check=False)
        assert result.returncode == 2 and f'tools/{tool} ' in result.stdout


TOOLS = sorted(path.name for path in (ROOT / 'tools').glob('*.py'))


@pytest.mark.parametrize('tool', TOOLS)
def test_help(tool, run_tool):
    assert 'usage:' in run_tool(tool, '--help').stdout
