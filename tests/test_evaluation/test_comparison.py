import json
from pathlib import Path

import numpy as np
import pytest
from mmengine.config import Config
from scipy.stats import ttest_rel

from ean_mmdet.errors import InputError
from ean_mmdet.evaluation.benchmark import stats
from ean_mmdet.evaluation.comparison import Comparison, Outcome, compare_logs, compare_trials
from ean_mmdet.evaluation.trials import Trial
from tests.conftest import ROOT
from tests.test_tools.tiny import write_config

VALUES = dict(plain=[50.0, 52.0, 51.0], EAN=[55.0, 56.0, 57.5])
KEPT = ROOT / 'docs/results/comparison'


@pytest.fixture
def logs(tmp_path):
    files = []
    for network, values in VALUES.items():
        for seed, value in enumerate(values):
            file = tmp_path / f'cifar10_{network}_seed{seed}.json'
            lines = [dict(iter=1, step=1, loss=1.0), {'accuracy/top1': value - 3, 'step': 1},
                     dict(iter=2, step=2, loss=0.5), {'accuracy/top1': value, 'step': 2}]  # fmt: skip
            file.write_text('\n'.join(map(json.dumps, lines)))
            files.append(file)
    return files


def test_paired_differences_are_those_of_scipy(logs):
    comparison = compare_logs(logs, 'accuracy/top1')
    plain, ean = comparison.outcomes
    assert plain.name == 'plain' and plain.values == {0: 50.0, 1: 52.0, 2: 51.0}
    assert plain.against(plain) is None
    found = ean.against(plain)
    expected = ttest_rel(VALUES['EAN'], VALUES['plain']).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))
    assert 'EAN is better than plain by 5.17 here, by ' in comparison.words()[0]
    assert 'intervals are over seeds alone, not test images' in comparison.notes()[0]


def test_a_missing_seed_is_named_and_its_row_has_no_mean(logs):
    comparison = compare_logs([file for file in logs if file.stem != 'cifar10_EAN_seed1'], 'accuracy/top1')
    row = comparison.table().rows[1]
    assert row[:4] == ('EAN', '55.00, missing, 57.50', '–', '–')
    assert 'EAN has no mean: seed 1 is missing.' in comparison.table().notes
    assert comparison.words() == ['EAN: nothing can be said against plain.']
    data = json.loads(json.dumps(comparison.data()))
    assert data['networks'][1]['missing'] == [1] and 'mean' not in data['networks'][1]


def test_words_are_as_strong_as_the_interval():
    def said(values, metric='coco/bbox_mAP'):
        plain = Outcome('none', dict(enumerate([0.5, 0.51, 0.52])))
        return Comparison(metric, [plain, Outcome('SE', dict(enumerate(values)))]).words()[0]

    assert 'SE and none are not told apart: the difference is between -0.0' in said([0.53, 0.5, 0.53])
    assert 'SE is worse than none by 0.100 here' in said([0.4, 0.41, 0.42])
    assert 'SE is lower than none' in said([0.4, 0.41, 0.421], 'loss')


def test_test_images_widen_the_interval():
    random = np.random.default_rng(0)
    plain = Outcome('none', {0: 0.50, 1: 0.51}, {seed: 0.5 + random.normal(0, 0.05, 1000) for seed in (0, 1)})
    other = Outcome('EAN', {0: 0.52, 1: 0.531}, {seed: 0.52 + random.normal(0, 0.05, 1000) for seed in (0, 1)})
    alone = Outcome('EAN', other.values).against(plain)
    found = other.against(plain)
    assert found.low < alone.low < alone.high < found.high
    comparison = Comparison('coco/bbox_mAP', [plain, other], images=72)
    assert 'intervals are over seeds and the 72 test images' in comparison.notes()[0]
    assert len(comparison.figure().axes[0].collections) >= 1


@pytest.mark.parametrize(
    'kind,metric,network,row',
    [
        ('cifar10', 'accuracy/top1', 'ean', ('56.33, 55.85, 53.23', '55.14 ± 1.67', '+7.85 [+2.22, +13.48]')),
        ('scratch', 'coco/bbox_mAP', 'ean', ('0.531, 0.534, 0.532', '0.532 ± 0.002', '+0.015 [+0.005, +0.025]')),
        ('yolox', 'pascal_voc/mAP', 'ela', ('0.745, 0.715, 0.739', '0.733 ± 0.016', '+0.040 [-0.041, +0.122]')),
    ],
)
def test_the_numbers_that_are_kept(kind, metric, network, row):
    table = compare_logs(sorted(KEPT.glob(f'{kind}_*_seed?.json')), metric).table()
    assert next(cells[1:4] for cells in table.rows if cells[0] == network) == row


def test_what_cannot_be_compared(logs, tmp_path):
    with pytest.raises(InputError, match=r"has no metric 'mAP'; it has accuracy/top1"):
        compare_logs(logs, 'mAP')
    with pytest.raises(InputError, match='no run of SE; there are plain, EAN'):
        compare_logs(logs, 'accuracy/top1', reference='SE')
    (tmp_path / 'other.json').write_text('{}')
    with pytest.raises(InputError, match=r'other\.json is not called KIND_NETWORK_seedN\.json'):
        compare_logs([Path(tmp_path / 'other.json')], 'accuracy/top1')
    mixed = logs[0].with_name('bccd_plain_seed0.json')
    mixed.write_text(logs[0].read_text())
    with pytest.raises(InputError, match=r'runs of different protocols: .*cifar10.*bccd_plain_seed0'):
        compare_logs([*logs, mixed], 'accuracy/top1')


@pytest.fixture
def crowded(sample_data, tmp_path):
    """A trial whose detections are more than 100 of a class in an image, so that mAP is not of all."""
    config = Config.fromfile(write_config(tmp_path, sample_data))
    truth = json.loads(Path(config.test_evaluator.ann_file).read_text())
    random = np.random.default_rng(0)
    found = []
    for box in truth['annotations']:
        own = dict(image_id=box['image_id'], category_id=box['category_id'])
        # some objects are found by their 151st detection alone
        found.append(dict(own, bbox=box['bbox'], score=float(random.choice([0.01, 0.95]))))
        for score in random.uniform(0.1, 0.9, 150):
            found.append(dict(own, bbox=[*random.uniform(0, 200, 2).tolist(), 9.0, 9.0], score=float(score)))
    trial = Trial('none', 0, config, tmp_path / 'none/seed0')
    log = trial.folder / '20260101_000000/vis_data/scalars.json'
    log.parent.mkdir(parents=True)
    log.write_text(json.dumps(dict(iter=1, step=1, time=0.1, loss=1.0)))
    trial.predictions.write_text(json.dumps(found))
    said = stats(truth, found, 'pycocotools')[0]
    names = ('coco/bbox_mAP', 'coco/bbox_mAP_50', 'coco/bbox_mAP_75')
    return trial, dict(zip(names, said.tolist())), stats(truth, found, 'pycocotools', maxDets=[1, 10, 100])[0]


def test_values_are_of_as_many_detections_as_the_tests(crowded):
    trial, said, of_100 = crowded
    assert abs(said['coco/bbox_mAP_50'] - of_100[1]) > 1e-3  # the number of detections matters
    trial.done_file.write_text(json.dumps(dict(metrics=said)))
    for metric, value in said.items():
        (outcome,) = compare_trials([trial], metric).outcomes
        assert outcome.values[0] == pytest.approx(value, abs=1e-6)


def test_results_of_another_test_are_refused(crowded):
    trial, said, _ = crowded
    trial.done_file.write_text(json.dumps(dict(metrics=said | {'coco/bbox_mAP': said['coco/bbox_mAP'] + 0.002})))
    with pytest.raises(InputError, match=r'none, seed 0: .* so they are not of one test\. Delete .*done\.json to have'):
        compare_trials([trial], 'coco/bbox_mAP')
