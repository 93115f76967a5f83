import pytest
from mmengine.config import Config

from ean_mmdet.engine import load_config, set_work_dir
from ean_mmdet.errors import InputError
from tests.conftest import ROOT


def test_reads_and_overrides():
    config = load_config(str(ROOT / 'configs/faster_rcnn_ean_r50_coco.py'), {'model.backbone.depth': 101})
    assert config.model.backbone.depth == 101 and config.model.backbone.groups == 64


def test_missing_config_names_the_near_ones():
    with pytest.raises(InputError, match=r'no config at .*faster_rcnn_ean_r50_cocoo\.py; did you mean .*_r50_coco\.py'):
        load_config(str(ROOT / 'configs/faster_rcnn_ean_r50_cocoo.py'))


def test_broken_config_is_named(tmp_path):
    path = tmp_path / 'broken.py'
    path.write_text("_base_ = './nowhere.py'\n")
    with pytest.raises(InputError, match=r'broken\.py is no valid config.*nowhere\.py'):
        load_config(str(path))
    path.write_text('model = dict(\n')
    with pytest.raises(InputError, match='SyntaxError'):
        load_config(str(path))


@pytest.mark.parametrize(
    'argument,own,expected', [('cli', 'file', 'cli'), (None, 'file', 'file'), (None, None, 'work_dirs/name')]
)
def test_work_dir(argument, own, expected):
    config = Config(dict(work_dir=own))
    set_work_dir(config, argument, 'configs/name.py')
    assert config.work_dir == expected


def test_a_config_that_fails_as_a_program_does(tmp_path):
    path = tmp_path / 'broken.py'
    path.write_text('model = undefined\n')
    with pytest.raises(InputError, match=r'broken\.py is no valid config: NameError'):
        load_config(str(path))


def test_an_option_that_cannot_be_set(tmp_path):
    path = tmp_path / 'config.py'
    path.write_text("param_scheduler = [dict(type='LinearLR', end=1)]\n")
    assert load_config(str(path), {'param_scheduler.0.end': 2}).param_scheduler[0].end == 2
    with pytest.raises(InputError, match=r'--cfg-options param_scheduler\.9\.end=2 cannot be set in .*config\.py'):
        load_config(str(path), {'param_scheduler.9.end': 2})
