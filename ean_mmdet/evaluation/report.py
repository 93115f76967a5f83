"""The report of training runs, or of results alone: what was trained, how it went, and where the model is wrong."""

from __future__ import annotations

import platform
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.config import Config

from ..analysis.cam import activation, overlay
from ..analysis.complexity import count_model
from ..checkpoint import latest_checkpoint, load_complete
from ..datasets.config_parts import is_classifier
from ..datasets.pipeline import preprocess, read_image
from ..engine import build_model, check_buildable, load_config
from ..engine.settings import known_keys
from ..errors import InputError
from ..files import read_text
from ..table import Table
from .classification import Classified, read_classified
from .curves import plot_curves
from .matching import Matches, class_precisions, confusion, match_detections, mistakes
from .page import Section, page
from .pictures import bars, confusion_figure, figure_url, image_url, precision_figure, side_by_side
from .results import Truth, config_truth, read_detections, read_info, tested_shape
from .runs import Run, choose_metric, flat_settings, read_run, short_names

MOST_DETECTIONS = (
    "Of a class and an image the 100 best detections count, as for COCO's mAP. The table by class of tools/test.py "
    '(classwise=True) counts the 1000 best, the last of proposal_nums, so it can differ in the third digit.'
)
# hotcoco's names of TIDE's kinds of errors: ours, and what they are
KINDS = {
    'Cls': ('classification', 'on an object, of another class'),
    'Loc': ('localization', 'of the right class, overlapping by 0.1 to 0.5 only'),
    'Both': ('both', 'of another class, overlapping by 0.1 to 0.5 only'),
    'Dupe': ('duplicate', 'on an object that a better detection has found'),
    'Bkg': ('background', 'on nothing'),
    'Miss': ('missed', 'objects without any detection that one of the above would fix'),
}
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


@dataclass(frozen=True)
class Subject:
    """Subject of a report.

    Attributes:
        name: Its name.
        run: The training run, if there is one.
        results: Its results on the test set, if there are any.
        precisions: AP of each class (rows) at each overlap (columns), of a detector's.
        info: What made the results, where that is known.
    """

    name: str
    run: Run | None = None
    results: Matches | Classified | None = None
    precisions: np.ndarray | None = None
    info: dict = field(default_factory=dict)


def report_runs(
    work_dirs: Sequence[Path],
    predictions: Sequence[Path | None],
    settings: Settings,
    progress: Callable[[str], object] = lambda line: None,
) -> str:
    """The page of one run, or of several side by side.

    Args:
        work_dirs: The runs' work dirs.
        predictions: The results of ``tools/test.py --out`` of each; None: the newest in its work dir, if there are any.
        settings: Its settings.
        progress: Called with a line about what is being done.

    Raises:
        InputError: Something in a run can't be read.
    """
    runs = [read_run(folder) for folder in work_dirs]
    if settings.base:
        load_config(str(settings.base))  # its modules are imported
    subjects = []
    for run, name, file in zip(runs, short_names(runs), predictions):
        if run.config is None:
            raise InputError(f'{name} has no config beside its log')
        check_buildable(run.config)
        file = file or _newest(run.path)
        progress(f'{name}: {file or "no predictions"}')
        if file is None:
            subjects.append(Subject(name, run))
            continue
        if is_classifier(run.config):
            subject = Subject(name, run, read_classified(file, run.config))
        else:
            subject = _detector(name, run, file, config_truth(run.config))
        subjects.append(replace(subject, info=read_info(file)))
    return _page(subjects, settings, progress)


def report_results(
    files: Sequence[Path],
    truth: Truth,
    settings: Settings,
    progress: Callable[[str], object] = lambda line: None,
) -> str:
    """The page of COCO results of any framework.

    Args:
        files: The results.
        truth: Their ground truth.
        settings: Its settings.
        progress: Called with a line about what is being done.

    Raises:
        InputError: A file can't be read.
    """
    subjects = []
    for file in files:
        progress(f'{file}')
        subjects.append(_detector(file.stem, None, file, truth))
    return _page(subjects, settings, progress)


def _detector(name: str, run: Run | None, file: Path, truth: Truth) -> Subject:
    matches = match_detections(read_detections(file, truth))
    return Subject(name, run, matches, class_precisions(matches))


def _newest(folder: Path) -> Path | None:
    infos = [path for pattern in ('*.info.json', '*/*.info.json') for path in folder.glob(pattern)]
    found = [path.with_name(path.name.replace('.info.json', '.json')) for path in infos]
    return max(filter(Path.is_file, found), key=lambda path: path.stat().st_mtime, default=None)


def _page(subjects: Sequence[Subject], settings: Settings, progress: Callable[[str], object]) -> str:
    overview = Section('Overview', [('table', _overview(subjects))])
    for subject in subjects:
        for note in _made_by(subject):
            overview.add('note', f'{subject.name}: {note}' if len(subjects) > 1 else note)
    sections = [overview]
    trained = [(subject.run, subject.name) for subject in subjects if subject.run]
    if trained:
        runs, names = zip(*trained)
        url = figure_url(plot_curves(runs, names, choose_metric(runs, names)))
        sections.append(Section('Curves', [('picture', (url, 'Metric, loss and learning rate of the training'))]))
    for subject in subjects:
        parts = []
        if subject.run:
            progress(f'{subject.name}: what was trained')
            parts += [_setup(subject.run, settings), _metrics(subject.run)]
        progress(f'{subject.name}: errors')
        if isinstance(subject.results, Matches):
            parts += _detection_errors(subject.results, subject.precisions, settings)
            if settings.maps and subject.run:
                progress(f'{subject.name}: activation maps')
                parts.append(_maps(subject.run, subject.results, settings, subject.info.get('checkpoint')))
        elif subject.results:
            parts += _classification_errors(subject.results, settings)
        else:
            hint = 'tools/test.py CONFIG CHECKPOINT --out WORK_DIR/predictions.json'
            text = f'There are no predictions of this run. With those of {hint} this page shows where it errs.'
            parts.append(Section('Errors', [('note', text)]))
        for section in parts:
            section.heading = f'{subject.name}: {section.heading}' if len(subjects) > 1 else section.heading
        sections += parts
    return page(f'Report: {", ".join(subject.name for subject in subjects)}', sections)


def _made_by(subject: Subject) -> list[str]:
    """Checkpoint that the results are of, beside that of the curves."""
    run, info = subject.run, subject.info
    if run is None or subject.results is None:
        return []
    if not info.get('checkpoint'):
        return ['What made the results is not known; tools/test.py --out writes it beside them.']
    unit, key = ('epoch', 'epoch') if run.by_epoch else ('iteration', 'iteration')
    checkpoint, done, at = Path(info['checkpoint']), run.done(run.by_epoch), info.get(key)
    notes = [f'The results are of {checkpoint.name}' + (f', {unit} {at}.' if at is not None else '.')]
    if at is not None and at != done:
        notes.append(f'They are of {unit} {at}, and the curves go to {unit} {done:g}.')
    if run.path.resolve() not in checkpoint.resolve().parents:
        notes.append(f'Their checkpoint, {checkpoint}, is not in {run.path}: is it of another training?')
    return notes


def _overview(subjects: Sequence[Subject]) -> Table:
    rows = []
    for subject in subjects:
        run, row = subject.run, [subject.name, '–', '–', '–']
        if run:
            metrics = [metric for metric in run.metrics if run.validation][:2]
            row[1] = f'{run.done(run.by_epoch):g} {"epochs" if run.by_epoch else "iterations"}'
            row[2] = ', '.join(f'{metric} {run.final(metric).values[metric]:.3f}' for metric in metrics) or '–'
        if isinstance(subject.results, Classified):
            row[3] = f'top-1 {subject.results.right.mean():.2%}, top-5 {subject.results.among.mean():.2%}'
        elif subject.precisions is not None:
            p = subject.precisions
            row[3] = f'mAP {np.nanmean(p):.3f}, mAP@.5 {np.nanmean(p[:, 0]):.3f}, mAP@.75 {np.nanmean(p[:, 5]):.3f}'
        rows.append(row)
    return Table.of('Overview', ('run', 'trained', 'last validation', 'test'), rows)


def _setup(run: Run, settings: Settings) -> Section:
    config: Any = run.config
    versions = []
    for package in PACKAGES:
        try:
            versions.append((package, version(package)))
        except PackageNotFoundError:
            continue
    height, width = tested_shape(config)
    complexity = count_model(build_model(config), (height, width)).count()
    rows = [
        ('parameters', complexity.params),
        ('operations', f'{complexity.operations / 1e9:.3f} G at {height} × {width}'),
        ('attention', ', '.join(f'{kind} × {count}' for kind, count in complexity.attention.items()) or 'none'),
        ('Python', platform.python_version()),
        *versions,
    ]
    note = 'Versions are those of the environment that wrote this page.'
    section = Section('What was trained', [('table', Table.of('', ('', ''), rows, [note]))])
    _differences(section, run, settings)
    section.add('folded', ('The whole config', config.pretty_text))
    return section


def _differences(section: Section, run: Run, settings: Settings) -> None:
    """Settings of the config beyond its base."""
    source = settings.base
    if source is None and settings.configs is not None:
        stems = [path.stem for path in run.path.glob('*.py')]  # mmengine dumps the config under its name
        source = next((file for stem in stems for file in sorted(settings.configs.rglob(f'{stem}.py'))), None)
    if source is None:
        section.add('note', 'The config that this one is based on is not known; --base names one.')
        return
    config: Any = run.config
    before, after = (dict(flat_settings(entry.to_dict())) for entry in (Config.fromfile(source), config))
    changed = [
        (key, str(before.get(key, '–'))[:80], str(after.get(key, '–'))[:80])
        for key in sorted(before.keys() | after.keys())
        if before.get(key) != after.get(key)
        and key.partition('.')[0] in known_keys() - {'work_dir', 'launcher', 'resume', 'load_from'}
        and not key.endswith('_scope_')
    ]
    text = read_text(source)
    section.add('folded', (f'{source.name}, what it says beyond its base', text))
    if changed:
        section.add('heading', f'Differences from {source.name}')
        section.add('table', Table('', ('setting', 'there', 'in this run'), tuple(changed)))


def _metrics(run: Run) -> Section:
    if not run.validation:
        return Section('Metrics', [('note', 'It was not validated.')])
    rows = [
        (name, run.final(name).values[name], run.best(name).values[name], f'{run.best(name).at(run.by_epoch):g}')
        for name in run.metrics
    ]
    header = ('metric', 'final', 'best', 'best at epoch' if run.by_epoch else 'best at iteration')
    return Section('Metrics', [('table', Table.of('', header, rows))])


def _detection_errors(matches: Matches, precisions: Any, settings: Settings) -> list[Section]:
    truth, tide = matches.detections.truth, matches.evaluation.tide_errors()
    rows = [
        (name, int(count), float(row.mean()), float(row[0]), float(row[5]))
        for name, row, count in zip(truth.classes, precisions, truth.positives)
        if count
    ]
    costs = {kind: tide['delta_ap'][kind] for kind in sorted(KINDS, key=tide['delta_ap'].__getitem__, reverse=True)}
    kinds = [(KINDS[kind][0], cost, tide['counts'][kind], KINDS[kind][1]) for kind, cost in costs.items()]
    cost = bars({KINDS[kind][0]: cost for kind, cost in costs.items()}, f'cost in mAP@.5, of {tide["ap_base"]:.3f}')
    matrix = confusion_figure(confusion(matches, settings.score), [*truth.classes, 'background'])
    sure = f'Detections of a score of at least {settings.score:g}, at an overlap of 0.5, in shares of a row'
    curves = figure_url(precision_figure(matches))
    rise = 'How much mAP@.5 rises when one kind of error is fixed (TIDE, ECCV 2020)'
    return [
        Section(
            'Classes',
            [
                ('table', Table.of('', ('class', 'objects', 'AP', 'AP@.5', 'AP@.75'), rows, [MOST_DETECTIONS])),
                ('picture', (curves, 'Precision and recall at an overlap of 0.5')),
            ],
        ),
        Section(
            'What the errors cost',
            [
                ('picture', (figure_url(cost), rise)),
                ('table', Table.of('', ('kind', 'costs mAP@.5', 'number', 'what it is'), kinds)),
            ],
        ),
        Section('Confusion', [('picture', (figure_url(matrix), sure))]),
        _extremes(matches, settings),
    ]


def _extremes(matches: Matches, settings: Settings) -> Section:
    """The images with the most mistakes, and with the fewest."""
    counts, paths = mistakes(matches, settings.score), matches.detections.truth.paths
    right, number = counts[:, 0], counts.sum(1)
    order = np.lexsort((2 * right - number, right / np.maximum(number, 1)))
    ranked = order[number[order] > 0].tolist()
    worst, best = ranked[: settings.images], ranked[settings.images :][::-1]
    section = Section('Best and worst images')
    if not all(paths[number].is_file() for number in worst):
        section.add('note', f'The images are not in {paths[0].parent}.')
        return section
    section.add('note', 'Ground truth on the left, detections on the right.')
    for title, numbers in (('Worst', worst), ('Best', best[: settings.images])):
        shown = []
        for number in numbers:
            pixels = side_by_side(read_image(paths[number]), matches.detections, number, settings.score)
            found, false, missed = counts[number]
            shown.append(
                (image_url(pixels, 960), f'{paths[number].name}: {found} found, {false} false, {missed} missed')
            )
        section.add('heading', title)
        section.add('pictures', shown)
    return section


def _classification_errors(results: Classified, settings: Settings) -> list[Section]:
    matrix = results.confusion()
    rows = sorted(
        (
            (name, int(row.sum()), f'{row[label] / row.sum():.2%}', _others(row, label, results.classes))
            for label, (name, row) in enumerate(zip(results.classes, matrix))
            if row.sum()
        ),
        key=lambda row: float(row[2].rstrip('%')),
    )
    classes = Table.of('', ('class', 'images', 'accuracy', 'most often taken for'), rows)
    section = Section('Best and worst images')
    order = np.argsort(-results.scores, kind='stable')
    for title, chosen in (('Surest mistakes', ~results.right), ('Surest of the right ones', results.right)):
        shown = []
        for number in order[chosen[order]][: 2 * settings.images].tolist():
            name, pixels = results.image(number)
            best, truth = results.classes[results.best[number]], results.classes[results.truth[number]]
            taken = best if results.right[number] else f'{best}, in truth {truth}'
            shown.append((image_url(pixels), f'{name}: {taken}, {results.scores[number]:.2f}'))
        section.add('heading', title)
        section.add('small pictures', shown)
    figure = figure_url(confusion_figure(matrix, results.classes))
    return [
        Section('Classes', [('table', classes)]),
        Section('Confusion', [('picture', (figure, 'In shares of a row'))]),
        section,
    ]


def _others(row: np.ndarray, label: int, classes: Sequence[str]) -> str:
    """Class that a class is most often taken for."""
    wrong = row.copy()
    wrong[label] = 0
    return ', '.join(f'{classes[k]} {wrong[k]}' for k in np.argsort(-wrong, kind='stable')[:2] if wrong[k]) or '–'


def _maps(run: Run, matches: Matches, settings: Settings, tested: str | None) -> Section:
    """Activation maps of the surest detections of the first images that have some."""
    section = Section('Activation maps')
    usable = tested and Path(tested).is_file() and not tested.endswith('.onnx')
    checkpoint = tested if usable else latest_checkpoint(run.path)
    if checkpoint is None:
        section.add('note', 'There is no checkpoint in the work dir.')
        return section
    detections, shown = matches.detections, []
    try:
        model: Any = build_model(run.config)
        load_complete(model, checkpoint)
        sure = np.unique(detections.images[detections.scores >= settings.score])
        for number in sure[: settings.maps].tolist():
            path = detections.truth.paths[number]
            data = preprocess(run.config, model.data_preprocessor, path)
            entry = activation(model, data, detections.truth.classes)
            shown.append((image_url(overlay(read_image(path), entry)), f'{path.name}: {entry.label}'))
    except InputError as error:
        section.add('note', f'No activation maps: {error}')
        return section
    section.add('pictures', shown)
    section.add('note', f'HiResCAM of the surest detection by {Path(checkpoint).name}; tools/cam.py draws more.')
    if tested and checkpoint != tested:
        section.add('note', f'The results are of {tested}, which is not here, so the maps are of another checkpoint.')
    return section
