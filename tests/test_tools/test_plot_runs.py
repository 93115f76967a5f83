"""The command line on logs that mmengine wrote and on sweeps written by hand."""

import runpy
import shutil
import sys

import matplotlib.image
import pytest
from mmengine.registry import DefaultScope

from tests.conftest import ROOT
from tests.test_evaluation.logged_runs import train, write_curve

pytestmark = pytest.mark.slow


def test_curves(tmp_path, run_tool):
    with DefaultScope.overwrite_default_scope('mmengine'):
        train(tmp_path / 'ean', True, 4)
    shutil.copytree(tmp_path / 'ean', tmp_path / 'se')
    out = tmp_path / 'pictures' / 'curves.png'
    options = ('--smooth', 2, '--metric', 'count/steps', '--out', out)
    result = run_tool('plot_runs.py', tmp_path / 'ean', tmp_path / 'se', *options)
    assert f'wrote {out}' in result.stdout and not result.stderr
    rows = [line.split() for line in result.stdout.splitlines() if line.startswith('│ ')]
    # 28 steps; the 27th is the last whose loss is logged
    expected = ['4', 'of', '4', '│', '28', '│', '28', '│', '4', '│', '-26']
    assert [row[1:-1] for row in rows] == [[name, '│', *expected] for name in ('ean', 'se')]
    picture = matplotlib.image.imread(out)
    assert picture.shape[:2] == (1425, 1200) and picture.min() < picture.max()


def test_against(tmp_path, run_tool):
    runs = [write_curve(tmp_path / f'g{groups}', 75 + groups / 100, groups) for groups in (8, 2, 4)]
    out = tmp_path / 'groups.svg'
    result = run_tool('plot_runs.py', *runs, '--against', 'model.backbone.groups', '--out', out)
    rows = [line.split() for line in result.stdout.splitlines() if line.startswith('│ ')]
    assert [row[1] for row in rows] == ['2', '4', '8'] and [row[5] for row in rows] == ['75.02', '75.04', '75.08']
    assert out.read_text().startswith('<?xml')


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['{tmp}/nowhere'], 'no run at {tmp}/nowhere'),
        (['{tmp}'], 'no log of training in {tmp} (TIME/vis_data/scalars.json, as mmengine writes it); did you mean'),
        (['{tmp}/a', '--legend', 'A', 'B'], '--legend has 2 names for 1 runs'),
        (['{tmp}/a', '--metric', 'top1'], "a has no metric 'top1'; it has accuracy/top1, accuracy/top5"),
        (['{tmp}/a', '--against', 'model.backbone.group'], 'did you mean model.backbone.groups'),
        (['{tmp}/a', '--out', 'runs.docx'], '--out runs.docx: matplotlib writes no such format'),
        (['{tmp}/a', '--out', '{tmp}/a'], '{tmp}/a: matplotlib writes no such format'),
        (['{tmp}/a', '{tmp}/a'], 'is named 2 times'),
    ],
)
def test_errors(tmp_path, monkeypatch, capsys, arguments, message):
    write_curve(tmp_path / 'a', 70, 2)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, 'argv', ['plot_runs.py', *(argument.format(tmp=tmp_path) for argument in arguments)])
    with pytest.raises(SystemExit) as exit:
        runpy.run_path(str(ROOT / 'tools' / 'plot_runs.py'), run_name='__main__')
    output, errors = capsys.readouterr()
    assert exit.value.code == 2 and not output
    (line,) = errors.splitlines()
    assert line.startswith('error: ') and message.format(tmp=tmp_path) in line
    assert not list(tmp_path.glob('*.png'))


def test_an_error_as_the_user_sees_it(tmp_path, run_tool):
    result = run_tool('plot_runs.py', tmp_path / 'nowhere', check=False)
    assert (result.returncode, result.stdout, result.stderr) == (2, '', f'error: no run at {tmp_path}/nowhere\n')
