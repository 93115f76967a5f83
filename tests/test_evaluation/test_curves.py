import math

import numpy as np
import pytest

from ean_mmdet.errors import InputError
from ean_mmdet.evaluation.curves import (
    against_table,
    curves_table,
    log_base,
    outcomes_against,
    plot_against,
    plot_curves,
    running_mean,
)
from ean_mmdet.evaluation.runs import read_runs
from ean_mmdet.palette import COLOURS

from .logged_runs import write_curve, write_run

METRIC = 'accuracy/top1'


def drawn(line):
    return line.get_xdata().tolist(), line.get_ydata().tolist()


@pytest.fixture
def two(tmp_path):
    return read_runs([write_curve(tmp_path / 'ean', 76.0, 4), write_curve(tmp_path / 'se', 75.0, 8)])


def test_curves(two):
    figure = plot_curves(two, ['EAN', 'SE'], METRIC)
    metric, loss, rate = figure.axes
    for axes in figure.axes:
        assert [line.get_color() for line in axes.lines] == list(COLOURS[:2])
        assert axes.get_xlim() == metric.get_xlim() and axes.get_xlim()[0] == 0
    assert drawn(metric.lines[1]) == (list(range(1, 13)), [point.values[METRIC] for point in two[1].validation])
    epochs = [step / 50 for step in range(10, 601, 10)]
    assert drawn(loss.lines[0])[0] == epochs
    np.testing.assert_allclose(drawn(loss.lines[0])[1], [0.3 + 2 / (50 * epoch) ** 0.5 for epoch in epochs])
    assert drawn(rate.lines[0])[1][:20] == [0.1] * 20
    assert rate.get_xlabel() == 'epoch' and metric.get_ylabel() == METRIC
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ['EAN', 'SE']
    assert [line.get_color() for line in legend.get_lines()] == list(COLOURS[:2])


def test_smoothed_loss_over_the_logged_one(two):
    _, loss, _ = plot_curves(two[:1], ['EAN'], METRIC, smooth=5).axes
    logged, smooth = loss.lines
    values = np.array(drawn(logged)[1])
    expected = [values[max(0, end - 5) : end].mean() for end in range(1, len(values) + 1)]
    np.testing.assert_allclose(drawn(smooth)[1], expected, rtol=1e-12)
    assert loss.get_ylabel() == 'loss (mean of 5)' and logged.get_alpha() < 1


def test_epochs_beside_iterations_stand_over_iterations(two, tmp_path):
    write_run(tmp_path / 'iters', [dict(loss=1.0, lr=0.1, iter=40, step=40), {METRIC: 50.0, 'step': 0}])
    runs = [two[0], *read_runs([tmp_path / 'iters'])]
    metric, loss, rate = plot_curves(runs, ['a', 'b'], METRIC).axes
    assert rate.get_xlabel() == 'iteration'
    assert drawn(metric.lines[0])[0] == list(range(50, 601, 50)) and drawn(metric.lines[1]) == ([40], [50.0])
    assert drawn(loss.lines[0])[0] == list(range(10, 601, 10))
    assert [row[1] for row in curves_table(runs, ['a', 'b'], METRIC).rows] == ['600', '40']


def test_nothing_validated_yet(tmp_path):
    lines = [dict(loss=float('nan'), iter=20, step=20), dict(loss=1.0, iter=40, step=40)]
    write_run(tmp_path, lines, 'groups = 4')
    runs = read_runs([tmp_path])
    metric, loss, rate = plot_curves(runs, ['new'], None).axes
    assert [text.get_text() for text in metric.texts] == ['nothing validated yet']
    assert [text.get_text() for text in rate.texts] == ['not logged']
    assert len(loss.lines) == 1
    assert curves_table(runs, ['new'], None).rows == (('new', '40', '-', '-', '-', '1'),)
    with pytest.raises(InputError, match='none of the runs has validated yet'):
        outcomes_against(runs, ['new'], 'groups', None)


def test_more_runs_than_colours(two):
    metric, *_ = plot_curves([two[0]] * 9, [str(i) for i in range(9)], METRIC).axes
    styles = {(line.get_color(), line.get_linestyle()) for line in metric.lines}
    assert len(styles) == 9


def test_table(two):
    table = curves_table(two, ['EAN', 'SE'], METRIC)
    assert table.header == ('Run', 'Epochs', 'accuracy/top1, last', 'best', 'best at epoch', 'Loss, last')
    assert table.rows[0] == ('EAN', '12 of 12', '76', '76', '12', f'{0.3 + 2 / 600**0.5:.4g}')


@pytest.fixture
def sweep(tmp_path):
    """Figure 3's kind of sweep: groups 2 to 64, two of them with three seeds, given out of order."""
    accuracies = {(16, 0): 75.91, (2, 0): 75.2, (2, 1): 75.3, (2, 2): 75.4, (4, 0): 75.55, (8, 0): 75.7, (8, 1): 75.8}
    accuracies |= {(8, 2): 75.75, (32, 0): 75.86, (64, 0): 75.6}
    names = [f'g{groups}_{seed}' for groups, seed in accuracies]
    paths = [write_curve(tmp_path / name, accuracy, key[0]) for name, (key, accuracy) in zip(names, accuracies.items())]
    return read_runs(paths), names


def test_against_powers_of_two(sweep, tmp_path):
    runs, names = sweep
    key = 'model.backbone.groups'
    outcomes = outcomes_against(runs, names, key, METRIC)
    assert [outcome.value for outcome in outcomes] == [2, 2, 2, 4, 8, 8, 8, 16, 32, 64]
    figure = plot_against(outcomes, key, METRIC)
    (axes,) = figure.axes
    (mean,) = axes.lines
    places, means = drawn(mean)
    assert places == [2, 4, 8, 16, 32, 64]
    np.testing.assert_allclose(means, [75.3, 75.55, 75.75, 75.91, 75.86, 75.6], rtol=1e-12)
    shown = axes.transData.transform([(place, 75) for place in places])[:, 0]
    np.testing.assert_allclose(np.diff(shown), np.diff(shown)[0])
    assert [label.get_text() for label in axes.get_xticklabels()] == ['2', '4', '8', '16', '32', '64']
    assert [text.get_text() for text in axes.texts] == ['75.3', '75.55', '75.75', '75.91', '75.86', '75.6']
    repeats = [[2, 75.2], [2, 75.3], [2, 75.4], [8, 75.7], [8, 75.8], [8, 75.75]]
    assert axes.collections[0].get_offsets().tolist() == repeats
    assert axes.get_xlabel() == key and axes.get_ylabel() == f'final {METRIC}'
    table = against_table(outcomes, key, METRIC)
    assert table.rows[0] == ('2', 'g2_0', '75.2', '12') and table.rows[-1] == ('64', 'g64_0', '75.6', '12')
    figure.savefig(tmp_path / 'figure3.png', dpi=150)
    assert (tmp_path / 'figure3.png').read_bytes()[:8] == b'\x89PNG\r\n\x1a\n'


def test_against_names(tmp_path):
    values = ['l2', None, 3, 'rms']
    runs = read_runs([write_curve(tmp_path / str(value), 70 + i, value) for i, value in enumerate(values)])
    key = 'model.backbone.groups'
    (axes,) = plot_against(outcomes_against(runs, ['a', 'b', 'c', 'd'], key, METRIC), key, METRIC).axes
    assert [label.get_text() for label in axes.get_xticklabels()] == ['3', 'None', 'l2', 'rms']
    assert drawn(axes.lines[0]) == ([0, 1, 2, 3], [72, 71, 70, 73])
    assert axes.lines[0].get_linestyle() == 'None' and not axes.collections


def test_a_run_without_validation_has_no_point(sweep, tmp_path):
    runs, names = sweep
    line = dict(loss=1.0, epoch=1, iter=1, step=1)
    new = write_run(tmp_path / 'new', [line], 'model = dict(backbone=dict(groups=128))')
    outcomes = outcomes_against([*runs, *read_runs([new])], [*names, 'new'], 'model.backbone.groups', METRIC)
    assert len(outcomes) == len(runs)


def test_running_mean_passes_over_nan():
    nan = math.nan
    assert running_mean([1.0, nan, 3.0, 5.0], 2) == [1, 1, 3, 4]
    assert math.isnan(running_mean([nan], 3)[0])


@pytest.mark.parametrize(
    ('values', 'base'),
    [
        ([2, 4, 16], 2),
        ([0.5, 1, 2], 2),
        ([1e-4, 1e-3, 0.1], 10),
        ([2, 3, 4], None),
        ([0, 1, 2], None),
        ([8], None),
        ([1, 6, 8], None),
    ],
)
def test_log_base(values, base):
    assert log_base(values) == base
