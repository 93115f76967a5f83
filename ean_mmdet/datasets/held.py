"""A data set of a config as MMDetection builds and reads it, without its images."""

from __future__ import annotations

import contextlib
import copy
import io
import logging
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from mmdet.datasets import CocoDataset, XMLDataset
from mmengine.config import Config
from mmengine.dataset import BaseDataset
from mmengine.logging import MMLogger
from mmengine.registry import DATASETS, DefaultScope

from ..errors import InputError
from .coco_check import explain_coco
from .config_parts import checked_classes, scope_of, type_class
from .voc_check import explain_list, explain_xml

# what parsing a file of XML can fail with
XML_ERRORS = (ArithmeticError, AttributeError, KeyError, OSError, TypeError, ValueError, ElementTree.ParseError)
README_SECTION = "see 'Data' in docs/detectors.md"


@dataclass
class Held:
    """Contents of a data set.

    ``loaded`` are its images before its filter and ``kept`` those after it, as MMDetection's dicts; ``api`` is
    pycocotools' reading of the annotation file, where the data set has one.
    """

    dataset: BaseDataset
    split: str
    loaded: list[dict] = field(default_factory=list)
    kept: list[dict] = field(default_factory=list)
    api: Any = None

    @property
    def kind(self) -> str:
        """The name of its class."""
        return type(self.dataset).__name__

    @property
    def file(self) -> Path:
        """Its annotation file."""
        return Path(self.dataset.ann_file or '')

    @property
    def classes(self) -> tuple[str, ...] | None:
        """The names of its classes."""
        return checked_classes(self.dataset.metainfo.get('classes'), self.kind)


def is_local(dataset: dict) -> bool:
    """Tell whether a data set's files are on a disk of this machine."""
    backend = (dataset.get('backend_args') or {}).get('backend', 'local')
    places = (dataset.get('data_root'), dataset.get('ann_file'))
    return backend in ('local', 'disk') and not any('://' in str(place) for place in places)


def hold(config: Config, part: dict, split: str) -> Held | None:
    """Build a data set of a config and have it read its annotations.

    Args:
        config: The whole config.
        part: The data set's config, without wrappers.
        split: ``'train'``, ``'val'`` or ``'test'``, for messages.

    Returns:
        What it holds; None where it is no data set of MMEngine's, which has no annotations to look at.

    Raises:
        InputError: It can't be built or read; says why.
    """
    kind = type_class(config, part, DATASETS)
    if kind is None:
        raise InputError(f'{split} data: no library here has a data set named {part.get("type")!r}')
    if not (isinstance(kind, type) and issubclass(kind, BaseDataset)):
        return None
    _require_root(part, split)
    with DefaultScope.overwrite_default_scope(scope_of(config)), _quietly():
        dataset = _build(kind, part, split)
        if isinstance(dataset.metainfo.get('classes'), str):
            checked_classes(dataset.metainfo['classes'], kind.__name__)
        held = Held(dataset, split)
        _require_file(held)
        _read(held)
    return held


def _build(kind: type, part: dict, split: str) -> BaseDataset:
    options = copy.deepcopy({key: value for key, value in part.items() if key not in ('type', '_scope_')})
    options.update(pipeline=[], lazy_init=True)
    while True:
        try:
            return kind(**options)
        except TypeError as error:
            # a class of the user's may take fewer arguments
            extra = [key for key in ('lazy_init', 'pipeline') if key in options and f"argument '{key}'" in str(error)]
            if not extra:
                raise InputError(f'{split} data: {kind.__name__} cannot be built: {error}') from error
            del options[extra[0]]
        except InputError:
            raise
        except Exception as error:  # a class of the user's can fail in any way
            reason = f'{type(error).__name__}: {" ".join(str(error).split())}'
            raise InputError(f'{split} data: {kind.__name__} cannot be built: {reason}') from error


def _read(held: Held) -> None:
    """Have the data set read its annotations, and take note of what it reads before its own filter."""
    dataset = held.dataset
    read, parse = dataset.load_data_list, dataset.parse_data_info
    coco_api: Any = getattr(dataset, 'COCOAPI', None)

    def noted_read() -> list[dict]:
        held.loaded = read()
        return held.loaded

    def noted_api(path: str) -> Any:
        held.api = coco_api(path)
        return held.api

    def explained_parse(info: dict) -> dict | list[dict]:
        try:
            return parse(info)
        except XML_ERRORS as error:
            path = Path(info.get('xml_path') or '') if isinstance(info, dict) else Path()
            if path == Path():
                raise
            if not path.is_file() and type(dataset).load_data_list is XMLDataset.load_data_list:
                explain_list(held.file, dataset, held.split, README_SECTION)
            raise InputError(f'{held.split} data: {explain_xml(path, error)}') from error

    dataset.load_data_list, dataset.parse_data_info = noted_read, explained_parse
    if coco_api is not None:
        dataset.COCOAPI = noted_api
    dataset.serialize_data = dataset._fully_initialized = False
    try:
        dataset.full_init()
    except InputError:
        raise
    except Exception as error:  # a class of the user's can fail in any way
        if (
            not isinstance(error, ImportError)
            and held.file.is_file()
            and (isinstance(dataset, CocoDataset) or held.file.suffix == '.json')
        ):
            explain_coco(held.file, held.split, held.split != 'train')
        reason = f'{type(error).__name__}: {" ".join(str(error).split()) or "no message"}'
        raise InputError(f'{held.split} data: {held.kind} cannot read {held.file}: {reason}') from error
    finally:
        # its own methods again
        for name in ('load_data_list', 'parse_data_info', 'COCOAPI'):
            dataset.__dict__.pop(name, None)
    held.kept = dataset.data_list


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Without what pycocotools and data sets print while they read."""
    logger = MMLogger.get_current_instance()
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logger.setLevel(level)


def _require_root(part: dict, split: str) -> None:
    root = part.get('data_root') or ''
    if root and not os.path.isdir(root):
        raise InputError(
            f'{split} data: no folder {root}. Put or link the data there, or set data_root in the config; '
            f'{README_SECTION}'
        )


def _require_file(held: Held) -> None:
    file = held.file
    if not held.dataset.ann_file and isinstance(held.dataset, (CocoDataset, XMLDataset)):
        raise InputError(f'{held.split} data: {held.kind} names no annotation file: set its ann_file')
    if held.dataset.ann_file and not file.exists():
        there = ', '.join(sorted(path.name for path in file.parent.glob('*'))[:8]) if file.parent.is_dir() else ''
        hint = f'{file.parent} holds {there or "nothing"}' if file.parent.is_dir() else f'nor a folder {file.parent}'
        raise InputError(f'{held.split} data: no annotation file {file}; {hint}; {README_SECTION}')


def frames(infos: list[dict]) -> Iterator[dict]:
    """The images of a data set; those of videos one by one."""
    for info in infos:
        yield from info['images'] if isinstance(info.get('images'), list) else [info]


def tell(kind: str, split: str, text: str) -> None:
    """Say what does not stop a run: a ``warning`` or a ``note``."""
    print(f'{kind}: {split} data: {text}', file=sys.stderr, flush=True)
