import runpy
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
TOOL = ROOT / 'tools' / 'complexity.py'


@pytest.fixture
def run(monkeypatch, capsys):
    """Run the tool in this process: its exit code, output and error output."""

    def run(*arguments):
        monkeypatch.setattr(sys, 'argv', [str(TOOL), *arguments])
        code = 0
        try:
            runpy.run_path(str(TOOL), run_name='__main__')
        except SystemExit as exit:
            code = exit.code
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


def test_config_from_another_folder(tmp_path):
    config = ROOT / 'configs' / 'ssdlite320_se_mobilenext_voc.py'
    command = [sys.executable, TOOL, config, '--shape', '320', '320', '--cfg-options', 'model.bbox_head.num_classes=3']
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert 'ssdlite320_se_mobilenext_voc, 320 × 320' in result.stdout
    assert 'SE × 15: the attention adds 439,135 parameters' in result.stdout
    assert 'backbone.layer8' in result.stdout and 'bbox_head' in result.stdout


def test_table(run):
    code, out, err = run('--table', '4')
    assert code == 0 and 'Table 4: Object detection' in out
    assert '│ EAN-MobileNeXt │ SSDLite320 │     3.4333 │   4.4 │' in out
    assert 'counted EAN-MobileNeXt' in err


def test_table_as_markdown(run):
    code, out, _ = run('--table', '4', '--markdown')
    assert code == 0 and '| SE-MobileNeXt | SSDLite320 | 3.8688 | 4.8 | -0.9 |' in out


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        ((), 'one of the arguments config --table --model-zoo --metafiles is required'),
        (('--table', '4', '--shape', '3', '3'), '--shape and --cfg-options go with a CONFIG'),
        (('--table', '6'), 'invalid choice: 6'),
        ((str(ROOT / 'configs' / 'ssdlite320_mobilenext_vox.py'),), 'ssdlite320_mobilenext_voc.py'),
        ((str(ROOT / 'pyproject.toml'),), 'is no valid config'),
    ],
)
def test_bad_arguments(run, arguments, message):
    code, _, err = run(*arguments)
    assert code == 2 and message in err
