"""The attention modules without OpenMMLab, and without parts of it."""

import subprocess
import sys

import pytest

from tests.conftest import ROOT
from tests.environments import link_packages, run_in

CODE = """
import torch
from ean_mmdet.attention import EAN, DIA, ELA, SGE
gate = EAN(32, groups=8)
x = torch.randn(2, 32, 5, 4)
torch.testing.assert_close(gate(x), x / 2)
assert SGE(32, groups=8)(x).shape == ELA(32)(x).shape == x.shape
"""


@pytest.fixture(scope='module')
def torch_alone(tmp_path_factory):
    folder = link_packages(tmp_path_factory.mktemp('torch'), 'torch')
    (folder / 'ean_mmdet').symlink_to(ROOT / 'ean_mmdet')
    return folder


@pytest.mark.slow
def test_with_torch_alone(torch_alone):
    assert "No module named 'mmengine'" in run_in(torch_alone, '-c', 'import mmengine').stderr
    done = run_in(torch_alone, '-c', CODE)
    assert done.returncode == 0, done.stderr
    # what needs timm says so when it is built, not when the package is imported
    done = run_in(torch_alone, '-c', 'from ean_mmdet.attention import SE; SE(32)')
    assert "No module named 'timm'" in done.stderr


@pytest.mark.slow
def test_without_mmdet(tmp_path):
    folder = link_packages(tmp_path, 'torch', 'mmengine', 'setuptools')
    (folder / 'ean_mmdet').symlink_to(ROOT / 'ean_mmdet')
    build = "from mmengine.registry import MODELS; assert type(MODELS.build(dict(type='EAN', in_channels=64))) is EAN"
    done = run_in(folder, '-c', f'{CODE}\n{build}')
    assert done.returncode == 0, done.stderr
    assert "No module named 'mmdet'" in run_in(folder, '-c', 'import mmdet').stderr


@pytest.mark.slow
def test_without_the_extras():
    """What `pip install ean_mmdet[mmdet]` brings is enough to train, test and infer."""
    extras = [
        'hotcoco',
        'jinja2',
        'globox',
        'imagehash',
        'timm',
        'onnx',
        'onnxscript',
        'onnxruntime',
        'pytorch_grad_cam',
    ]
    code = f"""
import runpy, sys
sys.modules.update(dict.fromkeys({extras}))  # importing any of these fails
import ean_mmdet
for tool in ('train', 'test', 'infer', 'check_data'):
    sys.argv = [tool + '.py', '--help']
    try:
        runpy.run_path('tools/' + tool + '.py', run_name='__main__')
    except SystemExit as end:
        assert not end.code
"""
    done = subprocess.run([sys.executable, '-W', 'ignore', '-c', code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
