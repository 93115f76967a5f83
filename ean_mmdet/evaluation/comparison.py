"""Networks compared over seeds and test images: a table, a plot, and words as strong as the intervals."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean, median, stdev
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from mmengine.config import Config

from ..datasets.config_parts import is_classifier
from ..errors import InputError
from ..palette import COLOURS
from ..table import Table
from .bootstrap import ACCURACIES, Interval, draw_images, interval, resampler
from .classification import read_classified
from .matching import MOST, match_detections
from .results import config_truth, read_detections
from .runs import read_run
from .trials import Trial

PROPOSAL_NUMS = (100, 300, 1000)  # MMDetection's
LOG_NAME = re.compile(r'(?P<kind>.+)_(?P<network>[^_]+)_seed(?P<seed>\d+)')


@dataclass
class Outcome:
    """Outcome of a network.

    Attributes:
        name: Its name.
        values: The metric by seed; None where the run is missing or failed.
        resampled: The metric of resampled test images by seed, (B,) each; empty where it can't be had.
        cost: What the network costs, by name of the column.
    """

    name: str
    values: dict[int, float | None]
    resampled: dict[int, np.ndarray] = field(default_factory=dict)
    cost: dict[str, str] = field(default_factory=dict)

    @property
    def missing(self) -> list[int]:
        """Seeds without a value."""
        return [seed for seed, value in self.values.items() if value is None]

    @property
    def complete(self) -> list[float]:
        """The values, if none is missing."""
        return [] if self.missing else [value for value in self.values.values() if value is not None]

    def against(self, reference: Outcome) -> Interval | None:
        """The paired difference to another network; None where a seed is missing or there is nothing to go by."""
        if self is reference or not self.complete or not reference.complete:
            return None
        differences = [value - reference.values[seed] for seed, value in self.values.items()]  # type: ignore[operator]
        resampled = None
        if set(self.values) == set(self.resampled) <= set(reference.resampled):
            resampled = np.stack([self.resampled[seed] - reference.resampled[seed] for seed in self.values])
        return interval(differences, resampled)


@dataclass(frozen=True)
class Comparison:
    """Networks, the reference first, and the metric.

    Attributes:
        metric: The metric.
        outcomes: The networks.
        images: Test images that were resampled; 0: none, the intervals are over the seeds alone.
        failed: The log of each run that failed, by its name.
    """

    metric: str
    outcomes: list[Outcome]
    images: int = 0
    failed: dict[str, Path] = field(default_factory=dict)

    @property
    def reference(self) -> Outcome:
        """Network that the others are compared with."""
        return self.outcomes[0]

    @property
    def digits(self) -> int:
        """Digits behind the point: accuracies are percentages, average precisions shares."""
        return 2 if self.metric.startswith(('accuracy', 'single-label')) else 3

    def table(self) -> Table:
        """The table."""
        number, reference = f'.{self.digits}f', self.reference
        costs = list(dict.fromkeys(key for outcome in self.outcomes for key in outcome.cost))
        rows = []
        for outcome in self.outcomes:
            values = outcome.complete
            shown = ', '.join('missing' if v is None else f'{v:{number}}' for _, v in sorted(outcome.values.items()))
            average = f'{mean(values):{number}}' if values else '–'
            if len(values) > 1:
                average += f' ± {stdev(values):{number}}'
            found = outcome.against(reference)
            difference = detectable = '–'
            if found:
                difference = f'{found.mean:+{number}} [{found.low:+{number}}, {found.high:+{number}}]'
                detectable = f'{found.detectable:{number}}'
            elif values and reference.complete and outcome is not reference:
                difference = f'{mean(values) - mean(reference.complete):+{number}}'
            rows.append(
                (outcome.name, shown, average, difference, detectable, *(outcome.cost.get(c, '–') for c in costs))
            )
        header = ('network', 'seeds', 'mean ± standard deviation', f'difference to {reference.name}, 95 % interval',
                  'smallest detectable', *costs)  # fmt: skip
        return Table(self.metric, header, tuple(rows), tuple(self.notes()))

    def notes(self) -> list[str]:
        """Describe what the intervals are over, and what is missing."""
        over = f'seeds and the {self.images:,} test images' if self.images else 'seeds alone, not test images'
        notes = [f'Differences are paired by seed; intervals are over {over}.']
        if any(outcome.against(self.reference) for outcome in self.outcomes):
            notes.append(
                'Smallest detectable: a true difference of this size would have been told from none in four of five '
                'comparisons like this one.'
            )
        for outcome in self.outcomes:
            if outcome.missing:
                seeds = ', '.join(map(str, outcome.missing))
                notes.append(f'{outcome.name} has no mean: seed {seeds} is missing.')
        return [*notes, *(f'{name} failed, see {log}.' for name, log in self.failed.items())]

    def words(self) -> list[str]:
        """A sentence for each network, no stronger than its interval."""
        number, reference, sentences = f'.{self.digits}f', self.reference.name, []
        for outcome in self.outcomes[1:]:
            found = outcome.against(self.reference)
            if found is None:
                sentences.append(f'{outcome.name}: nothing can be said against {reference}.')
            elif found.low > 0 or found.high < 0:
                word = 'better' if found.low > 0 else 'worse'
                if 'loss' in self.metric:
                    word = 'higher' if found.low > 0 else 'lower'
                least, most = sorted((abs(found.low), abs(found.high)))
                sentences.append(
                    f'{outcome.name} is {word} than {reference} by {abs(found.mean):{number}} here, by {least:{number}}'
                    f' to {most:{number}} with 95 % confidence.'
                )
            else:
                sentences.append(
                    f'{outcome.name} and {reference} are not told apart: the difference is between '
                    f'{found.low:+{number}} and {found.high:+{number}}, and one below {found.detectable:{number}} '
                    f'would hardly have been seen.'
                )
        return sentences

    def figure(self) -> Figure:
        """Each network's difference with its interval, and the seeds'."""
        figure = Figure(figsize=(7, 0.6 * len(self.outcomes) + 1.2), layout='constrained')
        axes = figure.subplots()
        others = self.outcomes[1:]
        for place, outcome in enumerate(others):
            base = self.reference.values
            each = [v - base[s] for s, v in outcome.values.items() if v is not None and base.get(s) is not None]  # type: ignore[operator]
            axes.scatter(each, [place + 0.2] * len(each), s=14, color=COLOURS[1], linewidths=0)
            found = outcome.against(self.reference)
            if found:
                low, high = max(found.mean - found.low, 0), max(found.high - found.mean, 0)
                axes.errorbar(found.mean, place, xerr=[[low], [high]], fmt='o', color=COLOURS[0], capsize=4)
        axes.axvline(0, color='0.6', linewidth=1, linestyle='--', zorder=0)
        axes.set_yticks(range(len(others)), [outcome.name for outcome in others])
        axes.set_ylim(len(others) - 0.4, -0.6)
        axes.set_xlabel(f'{self.metric} less that of {self.reference.name}: mean with 95 % interval, and each seed')
        axes.grid(axis='x', color='0.9')
        axes.spines[['top', 'right']].set_visible(False)
        return figure

    def data(self) -> dict[str, Any]:
        """Everything as numbers."""
        networks = []
        for outcome in self.outcomes:
            entry: dict[str, Any] = dict(
                name=outcome.name, seeds=outcome.values, missing=outcome.missing, cost=outcome.cost
            )
            if outcome.complete:
                values = outcome.complete
                entry |= dict(mean=mean(values), deviation=stdev(values) if len(values) > 1 else None)
            found = outcome.against(self.reference)
            entry['difference'] = found and vars(found)
            networks.append(entry)
        return dict(
            metric=self.metric, reference=self.reference.name, images=self.images, networks=networks,
            notes=self.notes(), words=self.words(), failed={name: str(log) for name, log in self.failed.items()},
        )  # fmt: skip


def compare_trials(
    trials: Sequence[Trial],
    metric: str | None = None,
    failed: dict[str, Path] | None = None,
    costs: dict[str, dict[str, str]] | None = None,
) -> Comparison:
    """Compare runs of one protocol.

    Args:
        trials: The runs, those of the reference first; what isn't done is missing.
        metric: The metric. Defaults to None, the first that test images can be resampled for, else the test's first.
        failed: Logs of the runs that failed.
        costs: What each network costs.

    Raises:
        InputError: No run is done, one lacks the metric, or its results give another value than its metric says.
    """
    finished = {trial.name: done for trial in trials if (done := trial.done()) is not None}
    if not finished:
        raise InputError('none of the runs is done, so there is nothing to compare')
    names = [set(done['metrics']) for done in finished.values()]
    common = [name for name in next(iter(finished.values()))['metrics'] if all(name in each for each in names)]
    if metric is None:
        metric = _default_metric(common)
    if metric not in common:
        raise InputError(f'not all runs have the metric {metric!r}; they have {", ".join(common)}')
    outcomes: dict[str, Outcome] = {}
    images, draws, truth = 0, None, None
    for trial in trials:
        outcome = outcomes.setdefault(
            trial.variant, Outcome(trial.variant, {}, {}, (costs or {}).get(trial.variant, {}))
        )
        outcome.values[trial.seed] = None
        if trial.name not in finished:
            continue
        said = float(finished[trial.name]['metrics'][metric])
        outcome.values[trial.seed] = said
        if is_classifier(trial.config):
            results: Any = read_classified(trial.predictions, trial.config)
            number = len(results.truth)
        else:
            truth = truth or config_truth(trial.config)
            detections = read_detections(trial.predictions, truth)
            results = match_detections(detections, _most_detections(trial.config, metric))
            number = len(truth.ids)
        resample = resampler(results, metric)
        if resample is None:
            continue
        value = float(resample(np.ones((1, number)))[0])
        if not math.isclose(value, said, abs_tol=0.006 if metric in ACCURACIES else 6e-4):
            raise InputError(
                f'{trial.name}: {trial.predictions} gives {metric} {value:.4f}, its test said {said:.4f}, so they are '
                f'not of one test. Delete {trial.done_file} to have it tested again'
            )
        if draws is None:
            images, draws = number, draw_images(number)
        outcome.values[trial.seed], outcome.resampled[trial.seed] = value, resample(draws)
    for outcome in outcomes.values():
        steps = [step for trial in trials if trial.variant == outcome.name if (step := _step_time(trial))]
        if steps:
            outcome.cost['step, s'] = f'{median(steps):.3f}'
    return Comparison(metric, list(outcomes.values()), images, failed or {})


def _most_detections(config: Config, metric: str) -> int:
    """How many detections of a class and an image count: pycocotools' mAP is of 100, all else of the last limit."""
    evaluators = config.test_evaluator if isinstance(config.test_evaluator, list) else [config.test_evaluator]
    limits = next((limits for entry in evaluators if (limits := entry.get('proposal_nums'))), PROPOSAL_NUMS)
    return MOST if metric == 'coco/bbox_mAP' else limits[-1]


def _default_metric(names: list[str]) -> str:
    """The first metric that test images can be resampled for, else the first."""
    return next((name for name in names if name in ('coco/bbox_mAP', ACCURACIES[0])), names[0] if names else '')


def _step_time(trial: Trial) -> float | None:
    """Median time of a training step without the loading of its data, as the run logged it."""
    if not trial.done_file.is_file():
        return None
    points = [point.values for point in read_run(trial.folder).training if 'time' in point.values]
    return median(values['time'] - values.get('data_time', 0) for values in points) if points else None


def compare_logs(files: Sequence[Path], metric: str, reference: str = 'plain') -> Comparison:
    """Compare runs by their logs alone, over the seeds.

    Args:
        files: Logs of mmengine that are called ``KIND_NETWORK_seedN.json``, all of one kind.
        metric: The metric; its last value counts.
        reference: The network to compare with. Defaults to ``'plain'``.

    Raises:
        InputError: A name has no network and seed in it, kinds are mixed, a run hasn't the metric, or there is no
            reference.
    """
    outcomes: dict[str, Outcome] = {}
    kinds: dict[str, Path] = {}
    seeds: set[int] = set()
    for file in files:
        name = LOG_NAME.fullmatch(file.stem)
        if not name:
            raise InputError(f'{file} is not called KIND_NETWORK_seedN.json')
        kinds[name['kind']] = file
        seeds.add(int(name['seed']))
        run = read_run(file)
        if metric not in run.metrics:
            raise InputError(f'{file} has no metric {metric!r}; it has {", ".join(run.metrics)}')
        value = run.final(metric).values[metric]
        outcomes.setdefault(name['network'], Outcome(name['network'], {})).values[int(name['seed'])] = value
    if len(kinds) > 1:
        raise InputError(f'these are runs of different protocols: {", ".join(str(file) for file in kinds.values())}')
    if reference not in outcomes:
        raise InputError(f'no run of {reference}; there are {", ".join(outcomes)}')
    for outcome in outcomes.values():
        outcome.values = {seed: outcome.values.get(seed) for seed in sorted(seeds)}
    order = sorted(outcomes.values(), key=lambda entry: (entry.name != reference, mean(entry.complete or [math.inf])))
    return Comparison(metric, order)


def choose_rates(
    pilots: Sequence[Trial], metric: str | None, by_each: bool, failed: dict[str, Path]
) -> tuple[dict[str, float], Table]:
    """The best learning rate of each network, by the metric on the held-out training images, and all of them.

    Args:
        pilots: The runs.
        metric: The metric. Defaults to None, as :func:`compare_trials`.
        by_each: Whether each network has its own; else all take the first one's.
        failed: Logs of the runs that failed.

    Raises:
        InputError: A run is missing.
    """
    missing = [f'{t.name} (see {failed.get(t.name, t.folder)})' for t in pilots if t.done() is None]
    if missing:
        raise InputError(f'the learning rate cannot be chosen without {", ".join(missing)}')
    found: dict[str, dict[float, float]] = {}
    for trial in pilots:
        metrics = (trial.done() or {})['metrics']
        metric = metric or _default_metric(list(metrics))
        found.setdefault(trial.variant, {})[trial.rate or 0] = metrics[metric]
    best = {variant: max(values, key=values.__getitem__) for variant, values in found.items()}
    rows = [
        (variant, f'{rate:g}', f'{value:.4g}', 'chosen' if rate == best[variant] else '')
        for variant, values in found.items()
        for rate, value in values.items()
    ]
    notes = ['Judged on a tenth of the training images, which these runs are not trained on.']
    if not by_each:
        notes.append(f'Chosen on {pilots[0].variant} alone, for all networks.')
    for variant, rate in best.items():
        if len(found[variant]) > 1 and rate in (min(found[variant]), max(found[variant])):
            notes.append(f'{variant}: {rate:g} is at the edge of what was tried; a better one may lie beyond.')
    return best, Table('Learning rates', ('network', 'learning rate', metric or '', ''), tuple(rows), tuple(notes))
