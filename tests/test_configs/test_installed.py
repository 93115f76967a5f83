"""The configs of an installed package, as ``pip install .`` lays it out."""

import subprocess
import sys

from mmengine.config import Config

from tests.conftest import ROOT


def test_configs_are_installed_where_mim_looks(tmp_path):
    command = [sys.executable, 'setup.py', '-q', 'build_py', '--build-lib', tmp_path]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    installed = tmp_path / 'ean_mmdet/.mim'
    assert not list(installed.rglob('__pycache__')) and (installed / 'model-index.yml').is_file()
    names = {file.relative_to(ROOT) for file in (ROOT / 'configs').rglob('*.py')}
    assert {file.relative_to(installed) for file in (installed / 'configs').rglob('*.py')} == names
    for name in ('pretrain/ean_mobilenext_cifar10', 'an/mask_rcnn_an_r50_coco', 'search/sge_r50_found_imagenet'):
        files = (folder / f'configs/{name}.py' for folder in (installed, ROOT))
        ours, theirs = (Config.fromfile(file).model for file in files)
        assert ours == theirs
