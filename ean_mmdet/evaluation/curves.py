"""Pictures and tables of training runs: their curves, and their final metric against a setting of their configs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke
from matplotlib.ticker import FixedLocator, NullLocator

from ..errors import InputError
from ..palette import COLOURS
from ..table import Table
from .runs import Point, Run, config_value, is_number

# Seven runs in, the colours begin again with another stroke.
STROKES = ('-', '--', ':', '-.')
TEXT, SMALL_TEXT = 12, 10


@dataclass(frozen=True)
class Outcome:
    """Outcome of a run, and the setting that led there.

    Attributes:
        name: The run's name.
        value: Value of the setting in its config.
        final: Its last validation.
        metric: Value of the metric in it.
    """

    name: str
    value: object
    final: Point
    metric: float


def plot_curves(runs: Sequence[Run], names: Sequence[str], metric: str | None, smooth: int = 1) -> Figure:
    """A metric, the loss and the learning rate of runs below each other, as in the EAN paper's Figure 4.

    They stand over epochs if all runs count epochs, else over iterations.

    Args:
        runs: The runs.
        names: Their names in the legend.
        metric: The validation metric; None where no run was validated yet.
        smooth: Draws the loss as the mean of so many logged values up to each, over the pale values themselves.
            Defaults to 1, the values alone.
    """
    by_epoch = all(run.by_epoch for run in runs)
    figure = Figure(figsize=(8, 9.5), layout='constrained')
    panels = figure.subplots(3, 1, sharex=True)
    handles = []
    for index, run in enumerate(runs):
        colour = COLOURS[index % len(COLOURS)]
        stroke = STROKES[index // len(COLOURS) % len(STROKES)]
        style: dict[str, Any] = dict(color=colour, linestyle=stroke, linewidth=1.6)
        handles.append(Line2D([], [], **style))
        for axes, points, name in zip(panels, (run.validation, run.training, run.training), (metric, 'loss', 'lr')):
            positions, values = series(points, name, by_epoch)
            if not positions:
                continue
            if name == 'loss' and smooth > 1:
                axes.plot(positions, values, **{**style, 'linewidth': 0.8, 'alpha': 0.25})
                values = running_mean(values, smooth)
            # a curve of few points, as of validations, shows where they are
            marker = dict(marker='o', markersize=4) if len(positions) <= 40 and axes is panels[0] else {}
            axes.plot(positions, values, **style, **marker)
    labels = (metric or 'metric', f'loss (mean of {smooth})' if smooth > 1 else 'loss', 'learning rate')
    for axes, label in zip(panels, labels):
        _dress(axes)
        axes.set_ylabel(label, fontsize=TEXT)
        if not axes.lines:
            missing = 'nothing validated yet' if axes is panels[0] else 'not logged'
            axes.text(0.5, 0.5, missing, transform=axes.transAxes, ha='center', va='center', fontsize=TEXT, color='0.4')
            axes.set_yticks([])
    panels[2].update_datalim([(0, 0)])
    panels[2].autoscale_view()
    panels[2].ticklabel_format(axis='y', style='sci', scilimits=(-3, 3), useMathText=True)
    panels[2].set_xlabel('epoch' if by_epoch else 'iteration', fontsize=TEXT)
    panels[2].set_xlim(left=0)
    panels[2].xaxis.set_major_formatter(lambda position, _: f'{position:,.10g}')
    figure.align_ylabels(panels)
    columns = min(max(72 // (max(map(len, names)) + 8), 1), len(names))  # as many as the width takes
    figure.legend(handles, names, loc='outside upper center', ncols=columns, frameon=False, fontsize=TEXT)
    return figure


def plot_against(outcomes: Sequence[Outcome], key: str, metric: str) -> Figure:
    """The final metric against a setting, as accuracy against the number of groups in the EAN paper's Figure 3.

    Runs with the same value, such as those with other seeds, are points about their mean. Numbers stand at their
    values, on a logarithmic axis if all are powers of two or of ten; anything else in equal steps, by its name.

    Args:
        outcomes: What the runs came to, sorted by :func:`outcomes_against`.
        key: The setting.
        metric: The metric.
    """
    groups: dict[str, list[Outcome]] = {}
    for outcome in outcomes:
        groups.setdefault(str(outcome.value), []).append(outcome)
    values: list[Any] = [group[0].value for group in groups.values()]
    numbers = all(is_number(value) for value in values)
    positions = values if numbers else list(range(len(values)))
    means = [sum(outcome.metric for outcome in group) / len(group) for group in groups.values()]
    repeats = [
        (position, o.metric) for position, group in zip(positions, groups.values()) for o in group if len(group) > 1
    ]

    figure = Figure(figsize=(7, 4.5), layout='constrained')
    axes = figure.subplots()
    _dress(axes)
    style: dict[str, Any] = dict(color=COLOURS[0], linewidth=1.8, marker='o', markersize=7)
    axes.plot(positions, means, **style, linestyle='-' if numbers else '', label='mean', zorder=3)
    if repeats:
        axes.scatter(
            [x for x, _ in repeats],
            [y for _, y in repeats],
            s=28,
            color=COLOURS[1],
            linewidths=0,
            label='one of several runs',
            zorder=2,
        )
        axes.legend(frameon=False, fontsize=SMALL_TEXT)
    for position, mean, group in zip(positions, means, groups.values()):
        axes.annotate(
            f'{mean:.4g}',
            (position, max(outcome.metric for outcome in group)),
            xytext=(0, 9),
            textcoords='offset points',
            ha='center',
            fontsize=SMALL_TEXT,
            path_effects=[withStroke(linewidth=3, foreground='white')],
            zorder=5,
        )
    base = log_base(values) if numbers else None
    if base:
        axes.set_xscale('log', base=base)
    axes.xaxis.set_major_locator(FixedLocator(positions))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xticks(positions, list(groups))
    if max(map(len, groups)) > 60 // len(groups):
        axes.tick_params(axis='x', rotation=25)
    axes.margins(x=0.08, y=0.16)
    axes.set_xlabel(key, fontsize=TEXT)
    axes.set_ylabel(f'final {metric}', fontsize=TEXT)
    return figure


def outcomes_against(runs: Sequence[Run], names: Sequence[str], key: str, metric: str | None) -> list[Outcome]:
    """The final metric of each run that was validated, with the value of a setting, sorted by that.

    Args:
        runs: The runs.
        names: Their names.
        key: The setting with dots, such as ``model.backbone.groups``.
        metric: The metric; None where no run was validated yet.

    Raises:
        InputError: A config has no such setting, or no run was validated yet.
    """
    values = [config_value(run, key) for run in runs]
    if metric is None:
        raise InputError('none of the runs has validated yet, so there is no final metric')
    outcomes = []
    for run, name, value in zip(runs, names, values):
        if run.validation:
            final = run.final(metric)
            outcomes.append(Outcome(name, value, final, final.values[metric]))
    return sorted(outcomes, key=lambda outcome: _order(outcome.value))


def curves_table(runs: Sequence[Run], names: Sequence[str], metric: str | None) -> Table:
    """Table of each run: its progress, last and best metric, and last loss."""
    by_epoch = all(run.by_epoch for run in runs)
    rows = []
    for run, name in zip(runs, names):
        done = _figure(run.done(by_epoch))
        if run.planned and run.by_epoch == by_epoch:
            done += f' of {run.planned:,}'
        cells = [name, done]
        if metric is None or not run.validation:
            cells += ['-', '-', '-']
        else:
            best = run.best(metric)
            cells += [_figure(run.final(metric).values[metric]), _figure(best.values[metric])]
            cells.append(_figure(best.at(by_epoch)))
        _, losses = series(run.training, 'loss', by_epoch)
        rows.append((*cells, _figure(losses[-1]) if losses else '-'))
    unit = 'epoch' if by_epoch else 'iteration'
    metric = metric or 'metric'
    header = ('Run', f'{unit}s'.capitalize(), f'{metric}, last', 'best', f'best at {unit}', 'Loss, last')
    return Table('Runs', header, tuple(rows))


def against_table(outcomes: Sequence[Outcome], key: str, metric: str) -> Table:
    """The value of the setting and the final metric of each run."""
    by_epoch = all(outcome.final.epoch is not None for outcome in outcomes)
    rows = [
        (str(outcome.value), outcome.name, _figure(outcome.metric), _figure(outcome.final.at(by_epoch)))
        for outcome in outcomes
    ]
    header = (key, 'Run', f'{metric}, last', f'at {"epoch" if by_epoch else "iteration"}')
    return Table(f'{metric} against {key}', header, tuple(rows))


def series(points: Sequence[Point], name: str | None, by_epoch: bool) -> tuple[list[float], list[float]]:
    """The positions of the points that have a value of this name, in epochs or iterations, and the values."""
    pairs = [(point.at(by_epoch), point.values[name]) for point in points if name in point.values]
    return [position for position, _ in pairs], [value for _, value in pairs]


def running_mean(values: Sequence[float], length: int) -> list[float]:
    """The mean of the last ``length`` values up to each, of fewer at the beginning; values that are NaN don't count."""
    means = []
    for end in range(1, len(values) + 1):
        window = [value for value in values[max(0, end - length) : end] if not math.isnan(value)]
        means.append(sum(window) / len(window) if window else math.nan)
    return means


def log_base(values: Sequence[float]) -> int | None:
    """2 or 10 if all values, two at least, are powers of it; else None."""
    if len(values) < 2 or min(values) <= 0:
        return None
    for base in (2, 10):
        exponents = [math.log(value, base) for value in values]
        if all(math.isclose(exponent, round(exponent), abs_tol=1e-9) for exponent in exponents):
            return base
    return None


def _dress(axes: Axes) -> None:
    """A light grid, no frame at the top and right, and figures that can be read."""
    axes.grid(color='0.9', linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[['top', 'right']].set_visible(False)
    axes.tick_params(labelsize=SMALL_TEXT, color='0.5')


def _order(value: object) -> tuple:
    """Numbers by size, then everything else by its name."""
    return (0, value, '') if is_number(value) else (1, 0, str(value))


def _figure(value: float) -> str:
    return f'{value:,.0f}' if float(value).is_integer() and abs(value) >= 1000 else f'{value:.4g}'
