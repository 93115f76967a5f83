"""The report of a real run, opened in a browser where there is one."""

import json
import pickle
import re
import shutil
import subprocess

import pytest
from mmengine.config import Config

from ean_mmdet.errors import InputError
from ean_mmdet.report import class_precisions, read_predictions
from tests.test_tools.tiny import write_config


@pytest.fixture(scope='module')
def reported(tmp_path_factory, sample_data, run_tool):
    folder = tmp_path_factory.mktemp('report')
    tiny = write_config(folder, sample_data)
    work_dir = folder / 'run'
    run_tool('train.py', tiny, '--work-dir', work_dir, '--cfg-options', 'randomness.seed=3')
    run_tool('test.py', tiny, work_dir / 'iter_6.pth', '--out', work_dir / 'x.pkl', '--work-dir', folder / 'test')
    result = run_tool('report.py', work_dir, '--base', tiny, '--score-thr', '0.01')
    assert 'wrote' in result.stdout
    return tiny, work_dir, folder


def test_the_page_holds_what_it_shows(reported):
    _, work_dir, folder = reported
    text = (work_dir / 'report.html').read_text()
    for heading in ('Overview', 'Curves', 'What was trained', 'Classes', 'What the errors cost', 'Confusion'):
        assert f'>{heading}</h2>' in text
    assert 'EAN × 15' in text and 'randomness.seed' in text and '<td class=figure>' in text
    assert text.count('data:image/jpeg;base64,') >= 8  # best and worst images
    links = re.findall(r'(?:src|href)="?([^"\s>]+)', text)
    assert links and all(link.startswith(('data:', '#')) for link in links)
    (metrics,) = (folder / 'test').glob('2*/2*.json')
    mean = json.loads(metrics.read_text())['coco/bbox_mAP']
    assert f'<td class=figure>{mean:.3f}</td>' in text


def test_its_precision_is_the_evaluations(reported):
    tiny, work_dir, folder = reported
    images, classes = read_predictions(work_dir / 'x.pkl', Config.fromfile(tiny))
    (metrics,) = (folder / 'test').glob('2*/2*.json')
    assert class_precisions(images, len(classes)).mean() == pytest.approx(
        json.loads(metrics.read_text())['coco/bbox_mAP'], abs=6e-4
    )


@pytest.mark.skipif(not shutil.which('chromium'), reason='no Chromium here')
@pytest.mark.parametrize('width', [1366, 390])
def test_a_browser_opens_it(reported, width, tmp_path):
    _, work_dir, _ = reported
    log = tmp_path / 'net.json'
    done = subprocess.run(
        ['chromium', '--headless', '--no-sandbox', '--disable-gpu', '--enable-logging=stderr', '--v=0',
         '--disable-background-networking', '--disable-component-update', '--no-first-run',
         f'--user-data-dir={tmp_path}/profile', f'--log-net-log={log}', f'--window-size={width},2000',
         f'--screenshot={tmp_path}/page.png', f'file://{work_dir}/report.html'],
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert (tmp_path / 'page.png').stat().st_size > 20_000, done.stderr
    assert 'CONSOLE' not in done.stderr
    requested = set(re.findall(r'"url":"(https?://[^"]*)"', log.read_text()))
    assert not {url for url in requested if 'google' not in url and 'gvt1' not in url}  # Chromium's own


def test_runs_side_by_side(reported, run_tool):
    _, work_dir, folder = reported
    other = folder / 'other'
    shutil.copytree(work_dir, other)
    (other / 'x.pkl').unlink()
    run_tool('report.py', work_dir, other, '--out', folder / 'both.html', '--maps', '0', '--images', '1')
    text = (folder / 'both.html').read_text()
    assert 'run: Confusion' in text and 'other: Errors' in text and 'other: Confusion' not in text


def test_predictions_that_are_none(reported, tmp_path):
    tiny, work_dir, _ = reported
    config = Config.fromfile(tiny)
    with pytest.raises(InputError, match=r'absent\.pkl holds no detections of tools/test\.py --out'):
        read_predictions(tmp_path / 'absent.pkl', config)
    (tmp_path / 'cut.pkl').write_bytes((work_dir / 'x.pkl').read_bytes()[:1000])
    with pytest.raises(InputError, match='holds no detections'):
        read_predictions(tmp_path / 'cut.pkl', config)

    class Hostile:
        def __reduce__(self):
            return (open, (str(tmp_path / 'opened'), 'w'))

    (tmp_path / 'hostile.pkl').write_bytes(pickle.dumps([Hostile()]))
    with pytest.raises(InputError, match='it asks for'):
        read_predictions(tmp_path / 'hostile.pkl', config)
    assert not (tmp_path / 'opened').exists()
    with open(tmp_path / 'few.pkl', 'wb') as file:
        pickle.dump([], file)
    with pytest.raises(InputError, match=r'lacks image .* of the test set; is it of another one'):
        read_predictions(tmp_path / 'few.pkl', config)
