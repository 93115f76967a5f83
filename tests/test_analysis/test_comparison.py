import json

import pytest
from scipy.stats import ttest_rel

from ean_mmdet.analysis.comparison import compare
from ean_mmdet.errors import InputError

VALUES = dict(plain=[50.0, 52.0, 51.0], EAN=[55.0, 56.0, 57.5])


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
    plain, ean = compare(logs, 'accuracy/top1')
    assert plain.network == 'plain' and plain.values == {0: 50.0, 1: 52.0, 2: 51.0}
    assert (plain.mean, plain.deviation) == (51.0, 1.0) and plain.difference is None
    interval = ttest_rel(VALUES['EAN'], VALUES['plain']).confidence_interval(0.95)
    assert ean.difference - ean.half_width == pytest.approx(interval.low)
    assert ean.difference + ean.half_width == pytest.approx(interval.high)


def test_what_cannot_be_compared(logs, tmp_path):
    with pytest.raises(InputError, match=r"has no metric 'mAP'; it has accuracy/top1"):
        compare(logs, 'mAP')
    with pytest.raises(InputError, match='plain has no run with seed 2, which EAN has'):
        compare([file for file in logs if file.stem != 'cifar10_plain_seed2'], 'accuracy/top1')
    with pytest.raises(InputError, match='no run of SE; there are plain, EAN'):
        compare(logs, 'accuracy/top1', reference='SE')
    (tmp_path / 'other.json').write_text('{}')
    with pytest.raises(InputError, match=r'other\.json is not called KIND_NETWORK_seedN\.json'):
        compare([tmp_path / 'other.json'], 'accuracy/top1')
