"""From pretraining to detection on the command line: a classifier, its checkpoint, a detector that starts from it."""

import json
import os
import re
import subprocess
import sys

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmpretrain.registry import MODELS

from tests.conftest import ROOT
from tests.test_tools.test_train_and_test import free_port, weights
from tests.test_tools.tiny import write_config

pytestmark = pytest.mark.slow

CLASSES = ('airplane', 'automobile', 'bird', 'cat', 'deer', 'dog', 'frog', 'horse', 'ship', 'truck')


@pytest.fixture(scope='module')
def classifier(tmp_path_factory):
    """Config of a quarter-width EAN-MobileNeXt on a folder of images per class, two epochs of five iterations."""
    folder = tmp_path_factory.mktemp('cifar')
    random = np.random.default_rng(0)
    for split, count in (('train', 4), ('test', 2)):
        for label, name in enumerate(CLASSES):
            (folder / split / name).mkdir(parents=True)
            for number in range(count):
                # a class is a brightness, so that there is something to learn
                image = random.normal(25 * label, 5, (32, 32, 3)).clip(0, 255).astype(np.uint8)
                cv2.imwrite(str(folder / split / name / f'{number}.png'), image)
    path = folder / 'classifier.py'
    path.write_text(
        f"""_base_ = {str(ROOT / 'configs/pretrain/ean_mobilenext_cifar10.py')!r}
model = dict(backbone=dict(widen_factor=0.25, last_channels=320), head=dict(in_channels=320))
train_dataloader = dict(batch_size=8, num_workers=0, persistent_workers=False, dataset=dict(data_root={str(folder)!r}))
val_dataloader = dict(num_workers=0, persistent_workers=False, dataset=dict(data_root={str(folder)!r}))
test_dataloader = val_dataloader
train_cfg = dict(max_epochs=2)
optim_wrapper = dict(optimizer=dict(lr=0.01))
"""
    )
    return path


@pytest.fixture(scope='module')
def pretrained(tmp_path_factory, classifier, run_tool):
    work_dir = tmp_path_factory.mktemp('pretrained')
    run_tool('train.py', classifier, '--work-dir', work_dir)
    return work_dir / 'epoch_2.pth'


def test_test_evaluates_a_classifier(pretrained, classifier, tmp_path, run_tool):
    out = tmp_path / 'predictions.json'
    result = run_tool('test.py', classifier, pretrained, '--work-dir', tmp_path, '--out', out, '--show-dir', 'pictures')
    assert 'accuracy/top1' in result.stdout + result.stderr
    entries = json.loads(out.read_text())
    assert len(entries) == 20 * 5 and {entry['image_id'] for entry in entries} == set(range(20))
    assert all(0 <= entry['category_id'] < 10 for entry in entries)
    assert len(list((tmp_path / 'pictures').glob('*.png'))) == 20


def test_the_report_of_a_classifier(pretrained, classifier, run_tool):
    work_dir = pretrained.parent
    out = work_dir / 'predictions.json'
    result = run_tool('test.py', classifier, pretrained, '--work-dir', work_dir / 'test', '--out', out)
    top1 = float(re.search(r'accuracy/top1: ([\d.]+)', result.stdout + result.stderr)[1])
    run_tool('report.py', work_dir, '--base', classifier)
    text = (work_dir / 'report.html').read_text()
    assert f'top-1 {top1:.2f}%, top-5' in text
    for heading in ('Classes', 'Confusion', 'Best and worst images'):
        assert f'>{heading}</h2>' in text
    assert 'Surest mistakes' in text and text.count('data:image/jpeg;base64,') >= 8
    out.write_text(out.read_text().replace('"image_id": 3,', '"image_id": 4,'))
    wrong = run_tool('report.py', work_dir, check=False)
    assert wrong.returncode == 2 and 'is not of the 20 images of the test set' in wrong.stderr


def test_test_time_augmentation(pretrained, classifier, tmp_path, run_tool):
    """--tta against the mean of the network's probabilities of each image and its mirror image, worked out here."""
    config = Config.fromfile(classifier)
    data = classifier.parent / 'test'
    files = [data / name / f'{number}.png' for name in CLASSES for number in range(2)]
    images = torch.stack([torch.from_numpy(cv2.imread(str(file))[..., ::-1].copy()) for file in files]).permute(
        0, 3, 1, 2
    )
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        model = MODELS.build(config.model | dict(data_preprocessor=config.data_preprocessor))
    model.load_state_dict(weights(pretrained))
    with torch.no_grad():
        model.head.fc.weight.mul_(100)  # ten iterations leave all classes about as probable
        for module in model.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.momentum = None  # statistics of these images
                module.reset_running_stats()
        views = [model.data_preprocessor(dict(inputs=batch))['inputs'] for batch in (images, images.flip(3))]
        model(views[0], mode='tensor')
        plain, mirrored = (model.eval()(batch, mode='tensor').softmax(1) for batch in views)
    scores = (plain + mirrored) / 2
    assert (scores - plain).abs().max() > 1e-3
    checkpoint, out = tmp_path / 'known.pth', tmp_path / 'predictions.json'
    torch.save(dict(state_dict=model.state_dict()), checkpoint)
    result = run_tool('test.py', classifier, checkpoint, '--work-dir', tmp_path, '--tta', '--out', out)
    top1 = 100 * (scores.argmax(1) == torch.arange(10).repeat_interleave(2)).float().mean().item()
    assert f'accuracy/top1: {top1:.4f}' in result.stdout + result.stderr
    written = torch.full((20, 10), float('nan'))
    for entry in json.loads(out.read_text()):
        written[entry['image_id'], entry['category_id']] = entry['score']
    seen = ~written.isnan()
    assert seen.sum() == 100
    torch.testing.assert_close(written[seen], scores[seen], atol=1e-5, rtol=0)
    wrong = run_tool('test.py', classifier, pretrained, '--tta', '--show-dir', 'pictures', check=False)
    assert wrong.returncode == 2 and "don't go with --tta" in wrong.stderr


def test_two_processes_without_bash(pretrained, classifier, tmp_path):
    """What dist_train.sh does, by the line that README has for Windows."""
    launch = ('-m', 'torch.distributed.run', '--nproc_per_node=2', f'--master_port={free_port()}')
    result = subprocess.run(
        [sys.executable, '-W', 'ignore', *launch, 'tools/train.py', classifier, '--launcher', 'pytorch', '--work-dir',
         tmp_path],
        cwd=ROOT, env={**os.environ, 'OMP_NUM_THREADS': '1', 'PATH': ''}, capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr[-3000:]
    assert 'Epoch(train)' in result.stdout + result.stderr or 'accuracy/top1' in result.stdout + result.stderr
    trained = weights(tmp_path / 'epoch_2.pth')
    assert trained.keys() == weights(pretrained).keys()


@pytest.mark.parametrize('initializer', ['Pretrained', 'WarmStart'])
def test_a_detector_starts_from_the_classifier(initializer, pretrained, sample_data, tmp_path, run_tool):
    base = write_config(tmp_path, sample_data, iterations=2)
    prefix = ", prefix='backbone.'" if initializer == 'Pretrained' else ''
    config = tmp_path / 'detector.py'
    config.write_text(
        f"""_base_ = {str(base)!r}
model = dict(
    backbone=dict(init_cfg=dict(_delete_=True, type={initializer!r}, checkpoint={str(pretrained)!r}{prefix}))
)
optim_wrapper = dict(optimizer=dict(lr=0))
"""
    )
    run_tool('train.py', config, '--work-dir', tmp_path / 'run')
    classifier, detector = weights(pretrained), weights(tmp_path / 'run' / 'iter_2.pth')
    learned = [key for key in classifier if key.startswith('backbone.') and 'running' not in key and 'num_' not in key]
    assert len(learned) > 100
    # at a learning rate of zero, what the detector has is what it started from
    assert all(torch.equal(classifier[key], detector[key]) for key in learned)
