"""What ``pip install .`` installs: configs and tools in the package, and no OpenMMLab library beside it."""

import importlib.metadata
import subprocess
import sys

import pytest
from mmengine.config import Config

from tests.conftest import ROOT

pytestmark = pytest.mark.slow


@pytest.fixture(scope='module')
def installed(tmp_path_factory):
    """What is in the package's ``.mim``."""
    folder = tmp_path_factory.mktemp('installed')
    command = [sys.executable, 'setup.py', '-q', 'build_py', '--build-lib', folder]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    return folder / 'ean_mmdet/.mim'


def test_configs_are_installed_where_mim_looks(installed):
    assert not list(installed.rglob('__pycache__')) and (installed / 'model-index.yml').is_file()
    names = {file.relative_to(ROOT) for file in (ROOT / 'configs').rglob('*.py')}
    assert {file.relative_to(installed) for file in (installed / 'configs').rglob('*.py')} == names
    for name in ('pretrain/ean_mobilenext_cifar10', 'an/mask_rcnn_an_r50_coco', 'search/sge_r50_found_imagenet'):
        files = (folder / f'configs/{name}.py' for folder in (installed, ROOT))
        ours, theirs = (Config.fromfile(file).model for file in files)
        assert ours == theirs


def test_tools_run_from_there(installed, tmp_path):
    """``mim train ean_mmdet CONFIG`` and ``mim run ean_mmdet check_data CONFIG`` run these files."""
    assert {file.name for file in (installed / 'tools').iterdir()} == {
        file.name for file in (ROOT / 'tools').iterdir() if file.is_file()
    }
    command = [sys.executable, '-W', 'ignore', installed / 'tools/check_data.py']
    config = installed / 'configs/sample/ssdlite192_ean_mobilenext_sample.py'
    result = subprocess.run([*command, config], cwd=tmp_path, capture_output=True, text=True)
    assert result.returncode == 2 and 'no folder data/sample/' in result.stdout and 'Traceback' not in result.stderr


def test_no_openmmlab_library_comes_along():
    """pip would put the stock ones over OneDL's fork, whose libraries have the same import names."""
    required = [line for line in importlib.metadata.requires('ean_mmdet') if 'extra ==' not in line]
    assert required and not [line for line in required if line.startswith(('mm', 'onedl'))]
