"""Statements of the user on a folder of data, and findings in it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

from ..files import read_text
from .parts import Part

ROLES = ('train', 'val', 'test')
# The words that splits are called by.
WORDS = {
    'trainval': 'trainval', 'train': 'train', 'training': 'train', 'val': 'val', 'valid': 'val', 'validation': 'val',
    'dev': 'val', 'test': 'test', 'testing': 'test',
}  # fmt: skip


@dataclass
class Options:
    """Statements of the user on the data, where the folder doesn't.

    Attributes:
        format: ``'coco'``, ``'voc'`` or ``'yolo'``. Defaults to None, the one that is there.
        annotations: Annotation files: COCO's, or YOLO's ``data.yaml``. Defaults to none, those that are found.
        images: The folder of the images. Defaults to None.
        classes: Names of the classes in their order. Defaults to none, the data's.
        splits: The data's name of a split by its role, ``dict(train='trainval')``. Defaults to none.
    """

    format: str | None = None
    annotations: tuple[Path, ...] = ()
    images: Path | None = None
    classes: tuple[str, ...] = ()
    splits: dict[str, str] = field(default_factory=dict)


@dataclass
class Found:
    """Contents of a folder.

    Attributes:
        folder: The folder.
        format: ``'coco'``, ``'voc'`` or ``'yolo'``.
        parts: Its splits by their names.
        classes: The names of the classes in their order.
        order: Where that order is from.
        notes: What was left out, or taken for granted.
    """

    folder: Path
    format: str
    parts: dict[str, Part]
    classes: tuple[str, ...]
    order: str
    notes: list[str] = field(default_factory=list)


def role_of(name: str) -> str | None:
    """The role that a split's name says: ``'train'``, ``'val'``, ``'test'`` or ``'trainval'``; None for no role."""
    roles = {WORDS[word] for word in re.findall('[a-z]+', name.lower()) if word in WORDS}
    return roles.pop() if len(roles) == 1 else None


def names_in(path: Path) -> tuple[str, ...]:
    """The names in a file of one class a line."""
    return tuple(line.strip() for line in read_text(path).splitlines() if line.strip())
