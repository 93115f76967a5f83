"""Logs of training runs, read from the work dirs that mmengine writes."""

from __future__ import annotations

import json
import math
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.hooks import CheckpointHook

from ..engine import read_dumped_config
from ..errors import InputError, did_you_mean

# Beside the metrics in a line of validation.
NO_METRICS = {'step', 'epoch', 'iter', 'time', 'data_time', 'memory'}


@dataclass(frozen=True)
class Point:
    """One line of a log and when it was written.

    Attributes:
        iteration: Optimization steps done.
        epoch: The same in epochs, with a fraction. None in a run that counts iterations alone.
        values: What was logged, by name, without the prefixes ``train/`` and ``val/``.
    """

    iteration: float
    epoch: float | None
    values: dict[str, float]

    def at(self, by_epoch: bool) -> float:
        """Moment of writing, in epochs or in iterations."""
        return self.epoch if by_epoch and self.epoch is not None else self.iteration


@dataclass(frozen=True)
class Run:
    """A training run, all its starts joined.

    Attributes:
        path: The folder or file that it was read from.
        config: The config of the last start; None if it isn't beside the log.
        training: Losses and learning rate in the order of training.
        validation: Metrics in the order of training.
        notes: What was left out.
    """

    path: Path
    config: Config | None
    training: tuple[Point, ...]
    validation: tuple[Point, ...]
    notes: tuple[str, ...] = ()

    @property
    def by_epoch(self) -> bool:
        """True where the run counts epochs."""
        return all(point.epoch is not None for point in (*self.training, *self.validation))

    @cached_property
    def metrics(self) -> tuple[str, ...]:
        """Names of the validation metrics, in the order of the log."""
        return tuple(dict.fromkeys(name for point in self.validation for name in point.values))

    @property
    def planned(self) -> int | None:
        """The epochs, or iterations, that the config trains for."""
        return _get(self.config, 'train_cfg', 'max_epochs' if self.by_epoch else 'max_iters')

    def done(self, by_epoch: bool) -> float:
        """Length of the log, in epochs or in iterations."""
        return max(point.at(by_epoch) for point in (*self.training, *self.validation))

    def final(self, metric: str) -> Point:
        """The last validation with the metric."""
        return next(point for point in reversed(self.validation) if metric in point.values)

    def best(self, metric: str) -> Point:
        """The best validation, by the rule that mmengine saves the best checkpoint with; the first of equals."""
        points = [p for p in self.validation if metric in p.values and not math.isnan(p.values[metric])]
        choose = min if _rule(metric, self.config) == 'less' else max
        return choose(points, key=lambda point: point.values[metric]) if points else self.final(metric)


def read_run(path: str | os.PathLike) -> Run:
    """Read what a run has logged.

    A run that was resumed has several starts. From where a later start begins, the earlier ones are left out.

    Args:
        path: A work dir, the folder of one start in it (named by its time), or a ``scalars.json``.

    Raises:
        InputError: There is no such folder, no log in it, or a log that cannot be read.
    """
    path = Path(path)
    training: list[Point] = []
    validation: list[Point] = []
    notes: list[str] = []
    config = None
    for file in _logs(path):
        lines, broken = _read_lines(file)
        if broken:
            notes.append(f'{file}: the last line was written by half, left out')
        if not lines:
            continue
        config = _read_config(file)
        new_training, new_validation = _points(lines, file, config)
        points = (*new_training, *new_validation)
        if not points:  # a validation without metrics alone
            continue
        by_epoch = all(point.epoch is not None for point in (*training, *validation, *points))
        begin = min(point.at(by_epoch) for point in points)
        earlier = (*training, *validation)
        if earlier and begin <= min(point.at(by_epoch) for point in earlier):
            notes.append(f'{file}: trained from the beginning again, so what was logged before is left out')
        training = [point for point in training if point.at(by_epoch) < begin] + new_training
        validation = [point for point in validation if point.at(by_epoch) < begin] + new_validation
    if not training and not validation:
        raise InputError(f'nothing has been logged in {path} yet')
    return Run(path, config, tuple(training), tuple(validation), tuple(notes))


def read_runs(paths: Sequence[str | os.PathLike]) -> list[Run]:
    """Read several runs, each of them named once.

    Raises:
        InputError: As :func:`read_run`, or a run is named twice.
    """
    for path, times in Counter(_folder(Path(path)) for path in paths).items():
        if times > 1:
            raise InputError(f'{path} is named {times} times')
    return [read_run(path) for path in paths]


def short_names(runs: Sequence[Run]) -> list[str]:
    """The shortest end of each run's work dir that tells it from the others, without what all end with."""
    folders = [_folder(run.path) for run in runs]
    work_dirs = [folder.parent if (folder / 'vis_data').is_dir() else folder for folder in folders]
    if len(set(work_dirs)) == len(folders):
        folders = work_dirs
    parts = [folder.parts for folder in folders]
    while len(parts) > 1 and len({part[-1] for part in parts}) == 1:
        parts = [part[:-1] for part in parts]
    length = 1
    while len({part[-length:] for part in parts}) < len(parts):
        length += 1
    return ['/'.join(part[-length:]) for part in parts]


def choose_metric(runs: Sequence[Run], names: Sequence[str], metric: str | None = None) -> str | None:
    """The metric to compare runs by.

    Args:
        runs: The runs.
        names: Their names, for the message.
        metric: The metric that the user wants. Defaults to None: what ``save_best`` of a run's config names, else the
            first in the log, which is what ``save_best='auto'`` takes; it has to be in all runs that were validated.

    Returns:
        The metric's name, or None where no run was validated yet.

    Raises:
        InputError: A run hasn't the metric, or the runs have none in common.
    """
    validated = [(run, name) for run, name in zip(runs, names) if run.validation]
    if metric is not None:
        for run, name in validated:
            if metric not in run.metrics:
                raise InputError(f'{name} has no metric {metric!r}; it has {", ".join(run.metrics)}')
        return metric if validated else None
    wanted = [key for run, _ in validated for key in (*_save_best(run.config), *run.metrics)]
    for key in wanted:
        if all(key in run.metrics for run, _ in validated):
            return key
    if validated:
        lists = '; '.join(f'{name} has {", ".join(run.metrics)}' for run, name in validated)
        raise InputError(f'the runs have no metric in common: {lists}')
    return None


def config_value(run: Run, key: str) -> object:
    """The value of a setting in a run's config.

    Args:
        run: The run.
        key: The setting with dots, as for ``--cfg-options``: ``model.backbone.groups``, ``param_scheduler.0.end``.

    Raises:
        InputError: The run has no config, or the config no such setting (names those that are near).
    """
    if run.config is None:
        raise InputError(f'{run.path} has no config.py beside its log')
    settings = dict(flat_settings(run.config.to_dict()))
    if key in settings:
        return settings[key]
    inside = [name for name in settings if name.startswith(f'{key}.')]
    if inside:
        raise InputError(f'{key} is a group of settings in the config of {run.path}: {", ".join(inside[:8])}')
    tail = key.rpartition('.')[2]
    same_tail = [name for name in settings if name.rpartition('.')[2] == tail]
    hint = did_you_mean(key, same_tail or settings, cutoff=0 if same_tail else 0.6)
    raise InputError(f'the config of {run.path} has no {key}{hint}')


def flat_settings(value: object, prefix: str = '') -> Iterator[tuple[str, object]]:
    """The settings in a config with their dotted keys; a list without groups in it is one setting."""
    if isinstance(value, dict) and (value or not prefix):
        items: Iterable[tuple[Any, Any]] = value.items()
    elif isinstance(value, (list, tuple)) and any(isinstance(item, dict) for item in value):
        items = enumerate(value)
    else:
        yield prefix.rstrip('.'), value
        return
    for key, item in items:
        yield from flat_settings(item, f'{prefix}{key}.')


def _logs(path: Path) -> list[Path]:
    """The ``scalars.json`` of each start, the oldest first."""
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise InputError(f'no run at {path}')
    here = path / 'vis_data' / 'scalars.json'
    # starts are named by their time, so that names sort as times do
    files = [here] if here.is_file() else sorted(path.glob('*/vis_data/scalars.json'))
    if not files:
        inside = sorted({file.parents[2].name for file in path.glob('*/*/vis_data/scalars.json')})
        hint = f'; did you mean {" ".join(str(path / name) for name in inside[:5])}?' if inside else ''
        raise InputError(f'no log of training in {path} (TIME/vis_data/scalars.json, as mmengine writes it){hint}')
    return files


def _folder(path: Path) -> Path:
    """The full path of a run's folder, for a ``scalars.json`` that of its start."""
    path = Path(os.path.abspath(path))
    if path.is_file():
        return path.parents[1] if path.parent.name == 'vis_data' else path.with_suffix('')
    return path


def _read_lines(file: Path) -> tuple[list[dict], bool]:
    """The lines of a ``scalars.json``, and whether the last was cut off, as when a run is killed while it writes."""
    texts = file.read_text(encoding='utf-8', errors='replace').rstrip().split('\n')
    lines: list[dict] = []
    for number, text in enumerate(texts, 1):
        try:
            line = json.loads(text) if text.strip() else {}
        except json.JSONDecodeError as error:
            if number == len(texts):
                return lines, True
            raise InputError(f'{file}, line {number} is no JSON: {error}') from error
        if not isinstance(line, dict) or (line and not is_number(line.get('step'))):
            raise InputError(f'{file}, line {number} is no line of mmengine\'s log: {text[:60]!r} has no "step"')
        if not all(is_number(line.get(key, 0)) for key in ('iter', 'epoch')):
            raise InputError(f"{file}, line {number} is no line of mmengine's log: its iter or epoch is no number")
        if line:
            lines.append(line)
    return lines, False


def _read_config(file: Path) -> Config | None:
    path = file.with_name('config.py')
    return read_dumped_config(path) if path.is_file() else None


def _points(lines: list[dict], file: Path, config: Config | None) -> tuple[list[Point], list[Point]]:
    """The lines of one start as points of training and of validation."""
    steps = [line for line in lines if 'iter' in line]
    by_epoch = _counts_epochs(config, steps)
    # mmengine writes a validation's epoch as its step, unless it is told to write the iteration
    metric_by_epoch = _get(config, 'default_hooks', 'logger', 'log_metric_by_epoch', default=True)
    epoch_length = _epoch_length(file, steps) if by_epoch else None
    if not by_epoch and metric_by_epoch:
        lines = _number_validations(lines, config)
    training, validation = [], []
    for line in lines:
        values = {re.sub('^(train|val)/', '', key): value for key, value in line.items() if is_number(value)}
        if 'iter' in line:
            epoch = line['iter'] / epoch_length if by_epoch else None
            training.append(Point(line['iter'], epoch, values))
            continue
        values = {name: value for name, value in values.items() if name not in NO_METRICS}
        step = line['step']
        if not by_epoch:
            validation.append(Point(step, None, values))
        elif metric_by_epoch:
            validation.append(Point(step * epoch_length, step, values))
        else:
            validation.append(Point(step, step / epoch_length, values))
    return training, [point for point in validation if point.values]


def _counts_epochs(config: Config | None, steps: list[dict]) -> bool:
    loop = str(_get(config, 'train_cfg', 'type', default=''))
    if 'EpochBased' in loop or 'IterBased' in loop:
        return 'EpochBased' in loop
    by_epoch = _get(config, 'train_cfg', 'by_epoch')
    return any('epoch' in line for line in steps) if by_epoch is None else by_epoch


def _epoch_length(file: Path, steps: list[dict]) -> int:
    """Iterations in an epoch: as the text log says, else as far as the lines of training tell."""
    for log in sorted(_folder(file).glob('*.log')):
        with log.open(encoding='utf-8', errors='replace') as text:
            for written in text:
                match = re.search(r'Epoch\(train\)\s*\[\s*\d+\]\[\s*\d+/(\d+)\]', written)
                if match:
                    return int(match[1])
    if not steps:
        return 1  # nothing but the validation before the first step
    first: dict[int, int] = {}
    for line in steps:
        if 'epoch' not in line:
            raise InputError(f'{file} counts epochs but its lines name none: log_processor.by_epoch was False')
        first.setdefault(line['epoch'], line['iter'])
    begin, end = min(first), max(first)
    if begin < end:  # the first line of each epoch is equally far from its beginning
        return round((first[end] - first[begin]) / (end - begin))
    return math.ceil(steps[-1]['iter'] / end)


def _number_validations(lines: list[dict], config: Config | None) -> list[dict]:
    """Give validations of an iteration-based run their iteration, where mmengine wrote 'epoch' 0 as the step.

    They are at multiples of the validation interval: those before the first line of training at the last multiples
    before it, others at the next from the line before on. Where the config names no interval, or several
    (``dynamic_intervals``), they are at the line before.
    """
    several = _get(config, 'train_cfg', 'dynamic_intervals')
    interval = 1 if several else _get(config, 'train_cfg', 'val_interval', default=1)
    end = _get(config, 'train_cfg', 'max_iters', default=math.inf)
    iterations = [line.get('iter') for line in lines]
    steps = [iteration for iteration in iterations if iteration is not None]
    multiple = 0
    if steps:
        multiple = max(0, math.ceil(steps[0] / interval) - iterations.index(steps[0]))
    numbered = []
    for line, iteration in zip(lines, iterations):
        if iteration is not None:
            multiple = max(multiple, math.ceil(iteration / interval))
        else:
            line = {**line, 'step': min(multiple * interval, end)}
            multiple += 1
        numbered.append(line)
    return numbered


def _rule(metric: str, config: Config | None) -> str:
    """``'greater'`` or ``'less'``: what is better, as mmengine's checkpoint hook decides it."""
    rule = _get(config, 'default_hooks', 'checkpoint', 'rule')
    try:
        return CheckpointHook(save_best=metric, rule=rule if isinstance(rule, str) else None).rules[0]
    except ValueError:  # it knows no rule for a metric of this name
        return 'greater'


def _save_best(config: Config | None) -> list[str]:
    wanted = _get(config, 'default_hooks', 'checkpoint', 'save_best', default=[])
    return [key for key in ([wanted] if isinstance(wanted, str) else wanted) if key != 'auto']


def _get(config: Config | None, *keys: str, default: Any = None) -> Any:
    """A setting that may be missing, or whose group may be."""
    value: Any = config
    for key in keys:
        value = value.get(key) if hasattr(value, 'get') else None
    return default if value is None else value


def is_number(value: object) -> bool:
    """Tell a number from a truth value and all else."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)
