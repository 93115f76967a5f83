"""Parts of a config about its data, however it is written: data sets inside wrappers, pipelines and classes.

Types may be names, with a library's prefix or without, or classes, as in MMDetection's pure-Python configs.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from mmengine.config import Config
from mmengine.registry import DATASETS, DefaultScope, Registry

from ..errors import InputError


def scope_of(config: Config) -> str:
    """The library whose registries a config's names are looked up in; MMDetection where it names none."""
    return config.get('default_scope') or 'mmdet'


def type_name(part: dict) -> str:
    """The name of a part's type, without a library's prefix; '' where it has none."""
    kind = part.get('type', '')
    return kind.rpartition('.')[2] if isinstance(kind, str) else getattr(kind, '__name__', str(kind))


def type_class(config: Config, part: dict, registry: Registry) -> type | None:
    """The class of a part's type; None where no library registers the name."""
    kind = part.get('type')
    if not isinstance(kind, str):
        return kind
    with registry.switch_scope_and_registry(part.get('_scope_') or scope_of(config)) as current:
        return current.get(kind)


def is_classifier(config: Config) -> bool:
    """Tell whether a config is MMPretrain's, with pure-Python configs recognized by their model."""
    scope = config.get('default_scope')
    if scope is None and isinstance(config.get('model'), dict):
        return str(getattr(config.model.get('type'), '__module__', '')).startswith('mmpretrain')
    return scope == 'mmpretrain'


def leaf_datasets(dataset: Any) -> Iterator[dict]:
    """The data sets inside wrappers such as RepeatDataset and ConcatDataset; one that has no wrapper is its own."""
    inner = dataset.get('datasets') or [dataset.get('dataset')]
    inner = [part for part in inner if isinstance(part, dict)]
    if not inner:
        yield dataset
    for part in inner:
        yield from leaf_datasets(part)


def datasets_of(config: Config, split: str = 'test') -> list[dict]:
    """A split's data sets, without their wrappers; none where the config has no such split."""
    loader = config.get(f'{split}_dataloader')
    return list(leaf_datasets(loader['dataset'])) if loader else []


def pipeline_of(config: Config, split: str = 'test') -> list[dict]:
    """The steps that a split's images go through; of several data sets, those of the first.

    Raises:
        InputError: The config has no such split, or its data set no pipeline.
    """
    datasets = datasets_of(config, split)
    steps = datasets[0].get('pipeline') if datasets else None
    if not steps:
        what = f'{split}_dataloader.dataset has no pipeline' if datasets else f'the config has no {split}_dataloader'
        raise InputError(f'{what}; it says how images are loaded and resized')
    return steps


def set_pipeline(config: Config, steps: list[dict], split: str = 'test') -> None:
    """Have all data sets of a split go through other steps."""
    for dataset in datasets_of(config, split):
        dataset['pipeline'] = steps


def as_list(parts: Any) -> list[dict]:
    """Evaluators or hooks of a config, which may be one, several or none, as a list."""
    return [] if not parts else list(parts) if isinstance(parts, (list, tuple)) else [parts]


def dataset_classes(config: Config, dataset: dict) -> tuple[str, ...] | None:
    """The names of a data set's classes, by MMEngine's rule; None where the config doesn't say.

    Raises:
        InputError: They aren't names, or one string.
    """
    return checked_classes(_metainfo(config, dataset).get('classes'), type_name(dataset))


def _metainfo(config: Config, dataset: dict) -> dict:
    kind: Any = type_class(config, dataset, DATASETS)
    if not hasattr(kind, '_load_metainfo'):
        return {}
    with DefaultScope.overwrite_default_scope(scope_of(config)):
        return kind._load_metainfo(dataset.get('metainfo'))


def checked_classes(classes: Any, kind: str) -> tuple[str, ...] | None:
    """The names of classes as a tuple.

    Raises:
        InputError: They aren't names, are one string, or a name is empty or given twice.
    """
    if classes is None:
        return None
    if isinstance(classes, str):
        raise InputError(
            f'metainfo of {kind}: classes is the string {classes!r}, of which every letter would be a class, and no '
            f'file of names; a single class is the tuple classes=({classes!r},)'
        )
    if not isinstance(classes, (list, tuple)) or not all(isinstance(name, str) for name in classes):
        raise InputError(f'metainfo of {kind}: classes must be names, or the path of a file of names, got {classes!r}')
    twice = (
        sorted({name for name in classes if list(classes).count(name) > 1}) if len(set(classes)) < len(classes) else []
    )
    if twice:
        raise InputError(f'metainfo of {kind}: classes has {twice[0]!r} twice; each has to have a name of its own')
    return tuple(classes)


def config_metainfo(config: Config, split: str = 'test') -> dict:
    """Return what a split's data set says of itself: classes, and colours to draw them in.

    Raises:
        InputError: As :func:`config_classes`.
    """
    config_classes(config, split)
    return _metainfo(config, datasets_of(config, split)[0])


def config_classes(config: Config, split: str = 'test') -> tuple[str, ...]:
    """Names of the classes that a config's data has, by default its test data.

    Raises:
        InputError: The config has no such data, or doesn't say its classes.
    """
    datasets = datasets_of(config, split)
    classes = dataset_classes(config, datasets[0]) if datasets else None
    if classes is None:
        raise InputError(
            f'the config names no classes: it lacks metainfo=dict(classes=(…)) in {split}_dataloader.dataset'
        )
    return classes
