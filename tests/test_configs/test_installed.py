"""The configs of an installed package, as ``pip install .`` lays it out."""

import subprocess
import sys

from mmengine.config import Config
from mmengine.utils import get_installed_path

from tests.conftest import ROOT


def test_installed_configs_are_found_by_name(tmp_path, monkeypatch):
    command = [sys.executable, 'setup.py', '-q', 'build_py', '--build-lib', tmp_path]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    package = tmp_path / 'ean_mmdet'
    assert not list(package.rglob('__pycache__')) and (package / '.mim/model-index.yml').is_file()
    paths = dict(ean_mmdet=str(package))
    monkeypatch.setattr(
        'mmengine.config.config.get_installed_path', lambda name: paths.get(name) or get_installed_path(name)
    )
    for name in ('pretrain/ean_mobilenext_cifar10', 'an/mask_rcnn_an_r50_coco', 'search/sge_r50_found_imagenet'):
        (tmp_path / 'mine.py').write_text(f"_base_ = 'ean_mmdet::{name}.py'\n")
        assert Config.fromfile(tmp_path / 'mine.py').model == Config.fromfile(ROOT / f'configs/{name}.py').model
