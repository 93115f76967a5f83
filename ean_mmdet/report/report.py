"""The report of training runs: what was trained, how it went, and where the detector is wrong."""

from __future__ import annotations

import platform
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.config import Config

from ..analysis.cam import activation, overlay
from ..analysis.complexity import count_model
from ..analysis.run_plots import plot_curves
from ..analysis.runs import Run, choose_metric, read_run, short_names
from ..checkpoint import latest_checkpoint, load_whole
from ..datasets.pipeline import preprocess, read_image
from ..engine import build_model, input_shape
from ..errors import InputError
from . import page
from .matching import class_hits, class_precisions, confusion
from .pictures import bars, confusion_figure, curves, figure_url, image_url, mistakes, side_by_side
from .predictions import Detections, read_predictions
from .tide import KINDS, error_kinds

PACKAGES = ('ean_mmdet', 'torch', 'mmengine', 'mmcv', 'mmdet', 'mmpretrain')


@dataclass(frozen=True)
class Settings:
    """The settings of a report.

    Attributes:
        score: Least score of a detection in the pictures and the confusion matrix.
        images: How many of the best and of the worst images are shown.
        maps: How many activation maps; 0: none.
        base: The config that differences are listed from; None: the one of the same name in ``configs``.
        configs: Folder of the configs.
    """

    score: float = 0.3
    images: int = 4
    maps: int = 3
    base: Path | None = None
    configs: Path | None = None


def write_report(
    work_dirs: Sequence[Path],
    predictions: Sequence[Path | None],
    settings: Settings,
    progress: Callable[[str], object] = lambda line: None,
) -> str:
    """The page of one run, or of several side by side.

    Args:
        work_dirs: The runs' work dirs.
        predictions: The pickle of ``tools/test.py --out`` of each; None: the newest in its work dir, if there is one.
        settings: Its settings.
        progress: Called with a line about what is being done.

    Raises:
        InputError: Something in a run can't be read.
    """
    runs = [read_run(folder) for folder in work_dirs]
    names = short_names(runs)
    for run, name in zip(runs, names):
        if run.config is None:
            raise InputError(f'{name} has no config beside its log')
    metric = choose_metric(runs, names)
    results = []
    for run, name, file in zip(runs, names, predictions):
        file = file or _newest(run.path)
        progress(f'{name}: {file or "no predictions"}')
        results.append(_judged(file, run.config) if file and _is_detector(run.config) else None)
    sections = [('Overview', _overview(runs, names, results))]
    sections.append(('Curves', f'<img src="{figure_url(plot_curves(runs, names, metric))}" alt="curves of training">'))
    for run, name, result in zip(runs, names, results):
        prefix = f'{name}: ' if len(runs) > 1 else ''
        progress(f'{name}: what was trained')
        sections.append((f'{prefix}What was trained', _setup(run, settings)))
        sections.append((f'{prefix}Metrics', _metrics(run)))
        if result is None:
            hint = 'tools/test.py CONFIG CHECKPOINT --out WORK_DIR/predictions.pkl'
            text = f'There are no predictions of this run. With those of {hint} this page shows where it errs.'
            sections.append((f'{prefix}Errors', page.note(text)))
            continue
        progress(f'{name}: errors')
        sections += [(f'{prefix}{heading}', content) for heading, content in _errors(result, settings)]
        if settings.maps:
            progress(f'{name}: activation maps')
            sections.append((f'{prefix}Activation maps', _maps(run, result, settings)))
    return page.page(f'Report: {", ".join(names)}', sections)


@dataclass(frozen=True)
class _Result:
    """A run's detections, and the AP of each class (rows) at each overlap (columns)."""

    images: list[Detections]
    classes: list[str]
    precisions: np.ndarray


def _judged(file: Path, config: Config) -> _Result:
    images, classes = read_predictions(file, config)
    return _Result(images, classes, class_precisions(images, len(classes)))


def _is_detector(config: Config) -> bool:
    return config.get('default_scope', 'mmdet') == 'mmdet'


def _newest(folder: Path) -> Path | None:
    found = [path for pattern in ('*.pkl', '*/*.pkl') for path in folder.glob(pattern)]
    return max(found, key=lambda path: path.stat().st_mtime, default=None)


def _overview(runs: Sequence[Run], names: Sequence[str], results: Sequence[_Result | None]) -> str:
    rows = []
    for run, name, result in zip(runs, names, results):
        unit = 'epochs' if run.by_epoch else 'iterations'
        row: list[Any] = [name, f'{run.done(run.by_epoch):g} {unit}']
        metrics = [metric for metric in run.metrics if run.validation][:2]
        row.append(', '.join(f'{metric} {run.final(metric).values[metric]:.3f}' for metric in metrics) or '–')
        if result:
            row += [float(np.nanmean(result.precisions)), float(np.nanmean(result.precisions[:, 0]))]
        else:
            row += ['–', '–']
        rows.append(row)
    return page.table(('run', 'trained', 'last validation', 'test: mAP', 'test: mAP@.5'), rows)


def _setup(run: Run, settings: Settings) -> str:
    config: Any = run.config
    versions = []
    for package in PACKAGES:
        try:
            versions.append((package, version(package)))
        except PackageNotFoundError:
            continue
    complexity = count_model(build_model(config), input_shape(config)).count()
    height, width = input_shape(config)
    rows = [
        ('parameters', f'{complexity.params:,}'),
        ('operations', f'{complexity.operations / 1e9:.3f} G at {height} × {width}'),
        ('attention', ', '.join(f'{kind} × {count}' for kind, count in complexity.attention.items()) or 'none'),
        ('Python', platform.python_version()),
        *versions,
    ]
    parts = [page.table(('', ''), rows), page.note('Versions are those of the environment that wrote this page.')]
    parts.append(_differences(run, settings))
    parts.append(page.folded('The whole config', page.code(config.pretty_text)))
    return ''.join(parts)


def _differences(run: Run, settings: Settings) -> str:
    """What the config says beyond its base."""
    source = settings.base
    if source is None and settings.configs is not None:
        stems = [path.stem for path in run.path.glob('*.py')]  # mmengine dumps the config under its name
        source = next((file for stem in stems for file in sorted(settings.configs.rglob(f'{stem}.py'))), None)
    if source is None:
        return page.note('The config that this one is based on is not known; --base names one.')
    base = Config.fromfile(source)
    changed = []
    config: Any = run.config
    before, after = _flat(base.to_dict()), _flat(config.to_dict())
    for key in sorted(before.keys() | after.keys()):
        if before.get(key) != after.get(key) and not key.startswith(('work_dir', 'launcher', 'resume', 'load_from')):
            changed.append((key, str(before.get(key, '–'))[:80], str(after.get(key, '–'))[:80]))
    text = source.read_text(encoding='utf-8')
    parts = [page.folded(f'{source.name}, what it says beyond its base', page.code(text))]
    if changed:
        parts.append(
            f'<h3>Differences from {source.name}</h3>' + page.table(('setting', 'there', 'in this run'), changed)
        )
    return ''.join(parts)


def _flat(value: object, prefix: str = '') -> dict[str, object]:
    """Nested dicts and lists as one dict of dotted names."""
    if isinstance(value, (list, tuple)):
        value = dict(enumerate(value))
    if not isinstance(value, dict):
        return {prefix: value}
    flat: dict[str, Any] = {}
    for key, entry in value.items():
        flat |= _flat(entry, f'{prefix}.{key}' if prefix else str(key))
    return flat


def _metrics(run: Run) -> str:
    if not run.validation:
        return page.note('It was not validated.')
    rows = [
        (name, run.final(name).values[name], run.best(name).values[name], f'{run.best(name).at(run.by_epoch):g}')
        for name in run.metrics
    ]
    return page.table(('metric', 'final', 'best', 'best at epoch' if run.by_epoch else 'best at iteration'), rows)


def _errors(result: _Result, settings: Settings) -> list[tuple[str, str]]:
    images, classes = result.images, result.classes
    hits = class_hits(images, len(classes))
    rows = [
        (name, count, float(row.mean()), float(row[0]), float(row[5]))
        for name, row, (_, _, count) in zip(classes, result.precisions, hits)
        if count
    ]
    by_class = page.table(('class', 'objects', 'AP', 'AP@.5', 'AP@.75'), rows)
    errors = error_kinds(images, len(classes))
    order = sorted(KINDS, key=lambda kind: -errors.cost[kind])
    kinds = page.table(
        ('kind', 'costs mAP@.5', 'number', 'what it is'),
        [(kind, errors.cost[kind], errors.count[kind], KINDS[kind]) for kind in order],
    )
    cost = figure_url(bars({kind: errors.cost[kind] for kind in order}, f'cost in mAP@.5, of {errors.ap:.3f}'))
    matrix = confusion(images, len(classes), settings.score)
    return [
        (
            'Classes',
            by_class + page.picture(figure_url(curves(hits, classes)), 'Precision and recall at an overlap of 0.5'),
        ),
        (
            'What the errors cost',
            page.picture(cost, 'How much mAP@.5 rises when one kind of error is fixed (TIDE, ECCV 2020)') + kinds,
        ),
        (
            'Confusion',
            page.picture(
                figure_url(confusion_figure(matrix, classes)),
                f'Detections of a score of at least {settings.score:g}, at an overlap of 0.5, in shares of a row',
            ),
        ),
        ('Best and worst images', _extremes(images, classes, settings)),
    ]


def _extremes(images: list[Detections], classes: list[str], settings: Settings) -> str:
    ranked = []
    for image in images:
        right, false, missed = mistakes(image, settings.score)
        if right + false + missed:
            ranked.append((right / (right + false + missed), -right, str(image.path), (right, false, missed), image))
    ranked.sort(key=lambda entry: entry[:3])
    worst = ranked[: settings.images]
    best = sorted(ranked[settings.images :], key=lambda entry: (-entry[0], entry[1], entry[2]))[: settings.images]
    parts = []
    for title, entries in (('Worst', worst), ('Best', best)):
        shown: list[Any] = []
        for _, _, _, (right, false, missed), image in entries:
            pixels = read_image(image.path)
            caption = f'{image.path.name}: {right} found, {false} false, {missed} missed'
            shown.append((image_url(side_by_side(pixels, image, classes, settings.score), 960), caption))
        parts.append(f'<h3>{title}</h3>{page.pictures(shown)}')
    return page.note('Ground truth on the left, detections on the right.') + ''.join(parts)


def _maps(run: Run, result: _Result, settings: Settings) -> str:
    """Activation maps of the surest detections of the first images that have some."""
    checkpoint = latest_checkpoint(run.path)
    if checkpoint is None:
        return page.note('There is no checkpoint in the work dir.')
    shown: list[Any] = []
    try:
        model: Any = build_model(run.config)
        load_whole(model, checkpoint)
        for image in result.images:
            if len(shown) == settings.maps:
                break
            if not len(image.scores) or image.scores[0] < settings.score:
                continue
            data = preprocess(run.config, model.data_preprocessor, image.path)
            entry = activation(model, data, result.classes)
            pixels = read_image(image.path)
            shown.append((image_url(overlay(pixels, entry)), f'{image.path.name}: {entry.label}'))
    except InputError as error:
        return page.note(f'No activation maps: {error}')
    return page.pictures(shown) + page.note('HiResCAM of the surest detection; tools/cam.py draws more.')
