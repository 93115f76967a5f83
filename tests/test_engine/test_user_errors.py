"""Errors as one line: their code, their place, and the layer that they come from."""

import subprocess
import sys

import pytest
import torch
from mmengine.registry import MODELS

from ean_mmdet.engine import user_errors
from ean_mmdet.errors import InputError
from tests.conftest import ROOT
from tests.stock_settings import STOCK


def test_a_users_error_ends_with_2(capsys):
    with pytest.raises(SystemExit) as end, user_errors():
        raise InputError('no file')
    assert end.value.code == 2 and capsys.readouterr().err == 'error: no file\n'


def test_a_layer_of_another_width_is_named(tmp_path, capsys):
    from mmengine.config import Config

    config = Config.fromfile(STOCK / 'retinanet/retinanet_r18_fpn_1x_coco.py').model
    config.neck.in_channels[1] = 256
    detector = MODELS.build(dict(config, _scope_='mmdet'))
    with pytest.raises(SystemExit) as end, user_errors(tmp_path):
        detector(torch.randn(1, 3, 64, 64), mode='tensor')
    said = capsys.readouterr().err
    assert end.value.code == 1 and len(said.splitlines()) == 1
    assert 'to have 256 channels, but got 128 channels instead' in said
    assert ', in neck.lateral_convs.0.conv, Conv2d(256, 256, kernel_size=(1, 1), stride=(1, 1)) (' in said
    assert len(list(tmp_path.glob('traceback_*.txt'))) == 1


def test_a_bare_assertion_names_its_class():
    from ean_mmdet.engine import build_model, load_config

    config = load_config(str(ROOT / 'configs/ssdlite320_ean_mobilenext_voc.py'), {'model.neck.in_channels': (1, 2)})
    with pytest.raises(InputError, match=r"cannot be built: SSDNeck: AssertionError at 'assert in_channels"):
        build_model(config)


@pytest.mark.parametrize('lines', (1, 10_000))  # at the end, and in between
def test_output_that_nobody_reads_is_no_error(lines):
    program = f"""
from ean_mmdet.engine import user_errors
input()
with user_errors():
    for _ in range({lines}):
        print('a line')
"""
    process = subprocess.Popen(
        (sys.executable, '-c', program), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    process.stdout.close()
    process.stdin.write(b'go\n')
    process.stdin.close()
    said = process.stderr.read()
    assert (process.wait(), said) == (141, b'')


def test_a_broken_pipe_of_something_else_is_an_error(tmp_path, capsys):
    with pytest.raises(SystemExit) as end, user_errors(tmp_path):
        raise BrokenPipeError('a worker has gone')
    assert end.value.code == 1 and 'BrokenPipeError: a worker has gone' in capsys.readouterr().err
