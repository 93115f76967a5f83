"""All the steps from a folder to a config."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from mmengine.config import Config

from ..datasets import check_data
from ..engine import build_model, load_config
from ..errors import InputError
from ..evaluation.variants import parse_spec
from ..files import write_text
from ..table import Table
from .choices import DETECTORS, choose
from .contents import read_contents
from .find import assign_roles, find
from .found import Options
from .rehearse import fit_batch
from .show import choices_table, draw_examples, summary
from .split import FRACTION, split_part
from .weights import check_start, find_start
from .write import Job, render, write_parts


@dataclass
class Settings:
    """Choices of the user.

    Attributes:
        detector: Of :data:`.DETECTORS`. Defaults to ``'ssdlite'``.
        attention: The module, as in ``EAN`` or ``SE(ratio=8)``. Defaults to ``'none'``.
        start: A checkpoint to start from, or ``'none'``. Defaults to None, the best there is.
        fraction: Of the images to validate on where the data has no split. Defaults to 0.2.
        seed: Of that split. Defaults to 0.
        input_size: See :func:`.choose`. Defaults to None.
        batch_size: Images a device. Defaults to None, what the memory holds.
        iterations: Of the schedule. Defaults to None, by the number of images.
        width: Factor on the channels of SSDLite, above 0 and at most 1. Defaults to 1.
        rehearsal: Whether to train a few iterations for the memory and the time. Defaults to True.
        force: Whether an existing config is overwritten. Defaults to False.
    """

    detector: str = 'ssdlite'
    attention: str = 'none'
    start: str | None = None
    fraction: float = FRACTION
    seed: int = 0
    input_size: int | None = None
    batch_size: int | None = None
    iterations: int | None = None
    width: float = 1.0
    rehearsal: bool = True
    force: bool = False


@dataclass
class New:
    """A config that was written.

    Attributes:
        path: The file.
        picture: A dozen of its images with their boxes.
        tables: What was found, and chosen.
        last: The name of the last checkpoint that training writes.
        config: The config.
    """

    path: Path
    picture: Path
    tables: list[Table] = field(default_factory=list)
    last: str = ''
    config: Config | None = None


def new_config(
    folder: Path,
    out: Path,
    configs: Path,
    options: Options | None = None,
    settings: Settings | None = None,
    command: str = 'tools/new_config.py',
    progress: Callable[[str, Iterable, int], Iterable] = lambda what, entries, number: entries,
) -> New:
    """Write a config for a folder of data, and the files it needs beside it.

    Args:
        folder: The data, which isn't changed.
        out: The config; ``NAME_data`` beside it has what the data lacks, ``NAME.jpg`` shows some images.
        configs: The folder of this project's configs.
        options: What the data doesn't say of itself. Defaults to None, nothing.
        settings: What the user chooses. Defaults to None.
        command: The command line, for the head of the file.
        progress: Passes on entries one by one, of a number, under a heading, and shows how far they are.

    Raises:
        InputError: The data is of no known format, ambiguous or damaged; the file is there; or a setting can't be.
    """
    options, settings = options or Options(), settings or Settings()
    folder, out, configs = (Path(os.path.abspath(path)) for path in (folder, out, configs))
    _check(out, folder, settings)
    spec = parse_spec(settings.attention)
    found = find(folder, options)
    parts = assign_roles(found, options)
    divided = len(parts) == 1
    if divided:
        parts, notes = split_part(
            parts['train'], found.classes, settings.fraction, settings.seed,
            lambda entries, number: progress('Looking for images that look alike', entries, number),
        )  # fmt: skip
        parts['test'] = parts['val']
        found.notes += notes
    start = find_start(settings.detector, settings.start)
    datasets = write_parts(parts, folder, out, divided)
    contents = {
        role: read_contents(parts[role], _as_read(dataset, found.classes, role), role)
        for role, dataset in datasets.items()
    }
    train = contents['train']
    job = Job(settings.detector, spec, found, parts, datasets, start, configs, command, out, settings.width)
    base = _load_base(job)

    def write(batch_size: int | None) -> Config:
        choices = choose(
            settings.detector, base, train, found.classes, start.kind != 'scratch', batch_size, settings.input_size,
            settings.iterations,
        )  # fmt: skip
        write_text(out, render(job, choices, base))
        write.choices = choices  # type: ignore[attr-defined]
        with _by_attention(settings):
            return load_config(str(out))

    try:
        config = write(settings.batch_size)
        with _by_attention(settings):
            model = build_model(config)
        check_start(start, model)
    except InputError:
        out.unlink(missing_ok=True)
        raise
    others = {'start': start.note}
    if settings.rehearsal:
        size = tuple(np.median(train.sizes, axis=0).astype(int).tolist())
        usual = DETECTORS[settings.detector].batch
        usual = usual if settings.batch_size is None else (settings.batch_size, settings.batch_size)
        images = train.images if settings.batch_size is None else 10**9
        fit = fit_batch(write, usual, images, size)
        config = write(fit.batch_size)
        choices = write.choices  # type: ignore[attr-defined]
        iterations = choices.iterations
        if settings.detector == 'yolox':
            iterations = choices.epochs * -(-train.images // fit.batch_size)
        others['batch'] = f'{fit.batch_size}: {fit.note}'
        others['time'] = f'about {_duration(fit.seconds * iterations)} to train here, {fit.seconds:.2f} s an iteration'
    choices = write.choices  # type: ignore[attr-defined]
    check_data(config, ('train', 'val', 'test'))
    picture = out.with_suffix('.jpg')
    draw_examples(train, found.classes, picture)
    last = f'epoch_{choices.epochs}.pth' if settings.detector == 'yolox' else f'iter_{choices.iterations}.pth'
    tables = [*summary(found, parts, contents), choices_table(choices, others)]
    return New(out, picture, tables, last, config)


@contextlib.contextmanager
def _by_attention(settings: Settings) -> Iterator[None]:
    """Name the one setting that can make a config wrong that we have written."""
    try:
        yield
    except (AssertionError, ImportError, KeyError, TypeError, ValueError) as error:  # an InputError is a ValueError
        raise InputError(f'--attention {settings.attention}: {" ".join(str(error).split())}') from error


def _check(out: Path, folder: Path, settings: Settings) -> None:
    if settings.detector not in DETECTORS:
        raise InputError(f'--detector {settings.detector}: it is one of {", ".join(DETECTORS)}')
    if out.suffix != '.py':
        raise InputError(f'--out must be the name of a config, which ends in .py, got {out}')
    if out.is_relative_to(folder):
        raise InputError(f'--out {out} lies in DATA, in which nothing is written: name another place')
    if out.exists() and not settings.force:
        raise InputError(f'{out} is there already; --force overwrites it, --out names another')
    for name in ('input_size', 'batch_size', 'iterations'):
        value = getattr(settings, name)
        if value is not None and value < 1:
            raise InputError(f'--{name.replace("_", "-")} must be 1 or more, got {value}')
    if settings.width != 1 and settings.detector != 'ssdlite':
        raise InputError(f"--width is of ssdlite's backbone, and {settings.detector}'s is the one of its weights")
    if not 0 < settings.width <= 1:
        raise InputError(f'--width must be above 0 and at most 1, got {settings.width:g}')
    if settings.input_size and settings.detector in ('ssdlite', 'yolox') and settings.input_size % 32:
        raise InputError(f'--input-size must be a multiple of 32 for {settings.detector}, got {settings.input_size}')


def _as_read(dataset: dict, classes: tuple[str, ...], role: str) -> dict:
    """A data set as the config will have it."""
    made = dict(dataset, metainfo=dict(classes=classes))
    if role != 'train':
        return dict(made, test_mode=True)
    filter_cfg: dict = dict(filter_empty_gt=True)
    if dataset['type'] == 'VOCDataset':
        filter_cfg['bbox_min_size'] = 1
    return dict(made, filter_cfg=filter_cfg)


def _load_base(job: Job) -> Config:
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch, 'base.py')
        path.write_text(f'_base_ = {job.base!r}\n', encoding='utf-8')
        return Config.fromfile(path)


def _duration(seconds: float) -> str:
    """A time in words."""
    if seconds < 120:
        return f'{seconds:.0f} s'
    return f'{seconds / 60:.0f} minutes' if seconds < 7200 else f'{seconds / 3600:.1f} hours'
