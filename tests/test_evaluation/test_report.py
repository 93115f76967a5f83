"""The report of a real run, opened in a browser where there is one."""

import json
import re
import shutil
import subprocess

import numpy as np
import pytest
from mmengine.config import Config

from ean_mmdet.errors import InputError
from ean_mmdet.evaluation.matching import class_precisions, match_detections
from ean_mmdet.evaluation.results import annotated_truth, config_truth, read_detections
from tests.test_tools.tiny import write_config

pytestmark = pytest.mark.slow


@pytest.fixture(scope='module')
def reported(tmp_path_factory, sample_data, run_tool):
    folder = tmp_path_factory.mktemp('report')
    tiny = write_config(folder, sample_data)
    work_dir = folder / 'run'
    run_tool('train.py', tiny, '--work-dir', work_dir, '--cfg-options', 'randomness.seed=3')
    run_tool('test.py', tiny, work_dir / 'iter_6.pth', '--out', work_dir / 'x.json', '--work-dir', folder / 'test')
    result = run_tool('report.py', work_dir, '--base', tiny, '--score-thr', '0.01')
    assert 'wrote' in result.stdout
    return tiny, work_dir, folder


def test_the_page_holds_what_it_shows(reported):
    _, work_dir, folder = reported
    text = (work_dir / 'report.html').read_text()
    for heading in ('Overview', 'Curves', 'What was trained', 'Classes', 'What the errors cost', 'Confusion'):
        assert f'>{heading}</h2>' in text
    assert 'EAN × 15' in text and 'randomness.seed' in text and '<td class="figure">' in text
    assert text.count('data:image/jpeg;base64,') >= 8  # best and worst images
    links = re.findall(r'(?:src|href)="?([^"\s>]+)', text)
    assert links and all(link.startswith(('data:', '#')) for link in links)
    (metrics,) = (folder / 'test').glob('2*/2*.json')
    mean = json.loads(metrics.read_text())['coco/bbox_mAP']
    assert f'mAP {mean:.3f}, mAP@.5' in text


def test_its_precision_is_the_evaluations(reported):
    tiny, work_dir, folder = reported
    detections = read_detections(work_dir / 'x.json', config_truth(Config.fromfile(tiny)))
    (metrics,) = (folder / 'test').glob('2*/2*.json')
    assert class_precisions(match_detections(detections)).mean() == pytest.approx(
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


def test_results_say_what_they_are_of(reported, run_tool):
    _, work_dir, folder = reported
    info = json.loads((work_dir / 'x.info.json').read_text())
    assert info['checkpoint'] == str(work_dir / 'iter_6.pth') and info['iteration'] == 6
    text = (work_dir / 'report.html').read_text()
    assert 'The results are of iter_6.pth, iteration 6.' in text and 'of the surest detection by iter_6.pth' in text
    assert 'the curves go to' not in text and 'is it of another training?' not in text
    # of an earlier checkpoint, and of another run's
    other = folder / 'mismatched'
    shutil.copytree(work_dir, other, ignore=shutil.ignore_patterns('report.html*'))
    (other / 'x.info.json').write_text(json.dumps(info | dict(checkpoint=str(work_dir / 'iter_3.pth'), iteration=3)))
    run_tool('report.py', other, '--maps', '1', '--images', '0', '--score-thr', '0.01')
    text = (other / 'report.html').read_text()
    assert 'They are of iteration 3, and the curves go to iteration 6.' in text
    assert f'iter_3.pth, is not in {other}: is it of another training?' in text
    assert 'of the surest detection by iter_3.pth' in text


def test_a_run_is_looked_at_and_not_run(reported, tmp_path, run_tool):
    _, work_dir, _ = reported
    hostile = tmp_path / 'run'
    shutil.copytree(work_dir, hostile)
    (file,) = hostile.glob('2*/vis_data/config.py')
    text = file.read_text()
    trace = tmp_path / 'trace'
    for line in (
        f'open({str(trace)!r}, "w")',
        f"model = dict(type='pathlib.Path.touch', self={str(trace)!r})",
        f"custom_imports = dict(imports=['hostile'])\nopen_ = {str(trace)!r}",
    ):
        file.write_text(f'{text}\n{line}\n')
        (hostile / 'hostile.py').write_text(f'open({str(trace)!r}, "w")')
        result = run_tool('report.py', hostile, '--maps', '0', check=False, PYTHONPATH=str(hostile))
        assert result.returncode == 2 and 'Traceback' not in result.stderr and not trace.exists(), line
    run_tool('plot_runs.py', hostile, '--out', tmp_path / 'runs.png')  # it builds nothing
    assert not trace.exists()


def test_runs_side_by_side(reported, run_tool):
    _, work_dir, folder = reported
    other = folder / 'other'
    shutil.copytree(work_dir, other)
    (other / 'x.json').unlink()
    run_tool('report.py', work_dir, other, '--out', folder / 'both.html', '--maps', '0', '--images', '1')
    text = (folder / 'both.html').read_text()
    assert 'run: Confusion' in text and 'other: Errors' in text and 'other: Confusion' not in text


def test_results_of_any_framework(reported, sample_data, run_tool):
    """Annotations and results are all that it needs; images may be called by their files' names, as others do."""
    _, work_dir, folder = reported
    annotations = sample_data / 'annotations/instances_val.json'
    names = {entry['id']: entry['file_name'] for entry in json.loads(annotations.read_text())['images']}
    entries = json.loads((work_dir / 'x.json').read_text())
    for entry in entries:
        entry['image_id'] = names[entry['image_id']].rpartition('.')[0]
    (folder / 'other.json').write_text(json.dumps(entries))
    arguments = ['--annotations', annotations, '--predictions', folder / 'other.json', '--score-thr', '0.01']
    run_tool('report.py', *arguments, '--image-dir', sample_data / 'JPEGImages')
    text = (folder / 'report.html').read_text()
    known = (work_dir / 'report.html').read_text()
    for part in (r'mAP 0\.\d+, mAP@\.5 0\.\d+', r'<td>localization</td>.*?</tr>', r'<h3>Worst</h3>.*?</figure>'):
        assert re.search(part, text, re.DOTALL)[0] == re.search(part, known, re.DOTALL)[0]


def test_infers_detections_are_results(reported, sample_data, run_tool):
    tiny, work_dir, folder = reported
    data = json.loads((sample_data / 'annotations/instances_val.json').read_text())
    (folder / 'images').mkdir()
    for entry in data['images']:
        shutil.copy(sample_data / 'JPEGImages' / entry['file_name'], folder / 'images')
    run_tool('infer.py', folder / 'images', tiny, work_dir / 'iter_6.pth', '--out-dir', folder / 'inferred')
    truth = annotated_truth(sample_data / 'annotations/instances_val.json')
    ours, theirs = (
        class_precisions(match_detections(read_detections(file, truth)))
        for file in (folder / 'inferred/detections.json', work_dir / 'x.json')
    )
    np.testing.assert_allclose(ours, theirs, atol=1e-3)


def test_results_that_are_none(reported, sample_data, tmp_path):
    _, work_dir, _ = reported
    truth = annotated_truth(sample_data / 'annotations/instances_val.json')
    with pytest.raises(InputError, match=r'absent\.json holds no COCO results'):
        read_detections(tmp_path / 'absent.json', truth)
    (tmp_path / 'cut.json').write_bytes((work_dir / 'x.json').read_bytes()[:1000])
    with pytest.raises(InputError, match='holds no COCO results'):
        read_detections(tmp_path / 'cut.json', truth)
    entry = dict(image_id=truth.ids[0], category_id=1, score=0.5, bbox=[0, 0, 1, 1])
    for wrong, message in (
        (dict(entry, image_id=999), 'image 999 is not in the test set; is it of another one'),
        ({key: value for key, value in entry.items() if key != 'bbox'}, 'its entries have no bbox'),
        (dict(image_id=truth.ids[0], bbox=[0, 0, 1, 1]), "KeyError: 'score'"),
        *(
            (dict(entry, **{key: value}), 'entry 1 is')
            for key, values in dict(
                image_id=([], None, 1.5),
                category_id=({}, True),
                score=('0.5', float('nan'), None),
                bbox=([0, 1, 1], [0, 1, 1, '1'], [0, 0, 1, float('inf')], 7, None),
            ).items()
            for value in values
        ),
    ):
        (tmp_path / 'wrong.json').write_text(json.dumps([wrong]))
        with pytest.raises(InputError, match=message):
            read_detections(tmp_path / 'wrong.json', truth)
    with pytest.raises(InputError, match='is no COCO annotation file'):
        annotated_truth(tmp_path / 'wrong.json')
