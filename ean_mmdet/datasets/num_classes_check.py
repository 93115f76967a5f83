"""Check of a model's number of classes, where MMDetection's own check of that would ask."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from types import SimpleNamespace

from mmdet.engine.hooks import NumClassCheckHook
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope

from ..errors import InputError
from .config_parts import scope_of, type_class, type_name
from .held import Held


def check_num_classes(config: Config, held: Held) -> None:
    """See that the heads predict as many classes as the data set has.

    MMDetection's NumClassCheckHook decides, on the model itself, which is built only where some number in its config
    differs. It isn't for panoptic data, where heads have things, stuff or both, and a model may be evaluated on data
    that has more classes than it predicts.

    Raises:
        InputError: They don't.
    """
    model, classes = config.get('model'), held.classes
    panoptic = 'thing_classes' in held.dataset.metainfo
    if not isinstance(model, dict) or classes is None or panoptic or reads_names(config, held):
        return
    model = {key: value for key, value in model.items() if key != 'reid'}  # a tracker's, whose classes are people
    different = [(kind, number) for kind, number in _numbers(config, model) if number != len(classes)]
    if held.split != 'train':
        different = [(kind, number) for kind, number in different if number > len(classes)]
    if not different:
        return
    try:
        with DefaultScope.overwrite_default_scope(scope_of(config)):
            built = MODELS.build(model)
    except Exception:  # why it can't be built is said where it is built for the run
        return
    loader = SimpleNamespace(dataset=SimpleNamespace(metainfo=dict(classes=classes)))
    try:
        NumClassCheckHook()._check_head(SimpleNamespace(model=built, train_dataloader=loader), 'train')
    except AssertionError as error:
        kind, number = different[0]
        raise InputError(
            f'{held.split} data: its data set has {len(classes)} classes '
            f'({", ".join(map(repr, classes[:6]))}{" …" if len(classes) > 6 else ""}), and the model has a {kind} with '
            f'num_classes={number}; they must agree'
        ) from error


def reads_names(config: Config, held: Held) -> bool:
    """Tell whether a model is told the names of the classes as text, so that it has no number of them."""
    first: dict = held.kept[0] if held.kept else {}
    return 'text' in first or 'language_model' in (config.get('model') or {})


def _numbers(config: Config, part: object, name: str = '') -> Iterator[tuple[str, int]]:
    """The numbers of classes in a model's config, given or by default, with the types that they belong to."""
    if isinstance(part, dict):
        if part.get('type') and not name.endswith('rpn_head'):
            number = part.get('num_classes', _default(config, part))
            if isinstance(number, int):
                yield type_name(part), number
        for key, value in part.items():
            yield from _numbers(config, value, str(key))
    elif isinstance(part, (list, tuple)):
        for value in part:
            yield from _numbers(config, value, name)


def _default(config: Config, part: dict) -> int | None:
    kind = type_class(config, part, MODELS)
    if kind is None:
        return None
    number = inspect.signature(kind).parameters.get('num_classes')
    return number.default if number else None
