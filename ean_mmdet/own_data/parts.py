"""Images and their boxes as MMDetection's data sets read them: a COCO file, or a list of VOC annotations."""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ..datasets.voc_check import read_objects
from ..files import write_text

CLASS_FILES = ('classes.txt', 'labels.txt', 'obj.names', 'predefined_classes.txt')


def folders_below(root: Path, depth: int = 3) -> list[Path]:
    """A folder and those below it, by level and name; hidden ones are passed over."""
    level, found = [root], [root]
    for _ in range(depth):
        level = sorted(path for folder in level for path in _entries(folder) if path.is_dir())
        found += level
    return found


def _entries(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if not path.name.startswith(('.', '__MACOSX'))]


def files_below(root: Path, suffixes: Sequence[str], depth: int = 3) -> list[Path]:
    """Files of some suffixes in a folder and below, by name."""
    return sorted(
        path for folder in folders_below(root, depth) for path in _entries(folder)
        if path.suffix.lower() in suffixes and path.is_file()
    )  # fmt: skip


def listed(values: Sequence[Any], most: int = 6) -> str:
    """Some names in a sentence."""
    shown = ', '.join(str(value) for value in values[:most])
    return shown + (f' and {len(values) - most} more' if len(values) > most else '')


@dataclass
class CocoPart:
    """One split in COCO's format.

    Attributes:
        name: Its name in the data.
        content: The annotation file's.
        folder: Where ``file_name`` of its images begins.
        file: The annotation file, where it can be used as it is; None where one is to be written.
        notes: What was done to it or left out of it.
    """

    name: str
    content: dict
    folder: Path
    file: Path | None = None
    notes: list[str] = field(default_factory=list)
    kind = 'CocoDataset'
    suffix = '.json'

    def paths(self) -> list[Path]:
        """The image files."""
        return [self.folder / image['file_name'] for image in self.content['images']]

    def class_names(self) -> list[str]:
        """The names of its categories in the file's order."""
        return [category['name'] for category in self.content['categories']]

    def labels(self, classes: Sequence[str]) -> list[set[int]]:
        """Return the classes that each image has boxes of."""
        numbers = {c['id']: classes.index(c['name']) for c in self.content['categories'] if c['name'] in classes}
        by_image: dict[Any, set[int]] = {image['id']: set() for image in self.content['images']}
        for box in self.content['annotations']:
            if box['image_id'] in by_image and box['category_id'] in numbers:
                by_image[box['image_id']].add(numbers[box['category_id']])
        return list(by_image.values())

    def subset(self, name: str, indices: Sequence[int]) -> CocoPart:
        """Some of its images, as a split of their own."""
        images = [self.content['images'][index] for index in indices]
        kept = {image['id'] for image in images}
        boxes = [box for box in self.content['annotations'] if box['image_id'] in kept]
        return replace(self, name=name, content=dict(self.content, images=images, annotations=boxes), file=None)

    def ordered(self, classes: Sequence[str]) -> CocoPart:
        """Itself, or with its categories in the order of the classes: MMDetection numbers by the order of the file."""
        names = [name for name in self.class_names() if name in classes]
        if names == list(classes)[: len(names)]:
            return self
        content = copy.copy(self.content)
        known = {category['name']: category for category in content['categories']}
        number = max((c['id'] for c in content['categories'] if isinstance(c['id'], int)), default=0)
        content['categories'] = []
        for name in classes:
            if name not in known:
                number += 1
            content['categories'].append(known.get(name, dict(id=number, name=name)))
        note = f"{self.name}: its categories are in another order than the training split's; put right in a copy"
        return replace(self, content=content, file=None, notes=[*self.notes, note])

    def write(self, path: Path) -> None:
        """Write the annotation file."""
        write_text(path, json.dumps(self.content) + '\n')

    def names(self) -> list[str]:
        """Describe a list of its images."""
        return [image['file_name'] for image in self.content['images']]


@dataclass
class VocPart:
    """One split in VOC's format: images ``root/img_subdir/NAME.jpg`` and annotations ``root/ann_subdir/NAME.xml``.

    Attributes:
        name: Its name in the data.
        root: The folder, ``sub_data_root`` in MMDetection.
        stems: The names of its images.
        img_subdir: Of the images. Defaults to ``'JPEGImages'``.
        ann_subdir: Of the annotations. Defaults to ``'Annotations'``.
        file: The list, where there is one.
        notes: What was left out of it.
    """

    name: str
    root: Path
    stems: list[str]
    img_subdir: str = 'JPEGImages'
    ann_subdir: str = 'Annotations'
    file: Path | None = None
    notes: list[str] = field(default_factory=list)
    kind = 'VOCDataset'
    suffix = '.txt'

    def paths(self) -> list[Path]:
        """The image files."""
        return [self.root / self.img_subdir / f'{stem}.jpg' for stem in self.stems]

    def annotations(self) -> list[Path]:
        """The annotation files."""
        return [self.root / self.ann_subdir / f'{stem}.xml' for stem in self.stems]

    def labels(self, classes: Sequence[str]) -> list[set[int]]:
        """Return the classes that each image has boxes of."""
        numbers = {name: number for number, name in enumerate(classes)}
        return [{numbers[name] for name in read_objects(path)[0] if name in numbers} for path in self.annotations()]

    def subset(self, name: str, indices: Sequence[int]) -> VocPart:
        """Some of its images, as a split of their own."""
        return replace(self, name=name, stems=[self.stems[index] for index in indices], file=None)

    def ordered(self, classes: Sequence[str]) -> VocPart:
        """Itself: MMDetection numbers VOC's classes by the config."""
        return self

    def write(self, path: Path) -> None:
        """Write the list."""
        write_text(path, ''.join(f'{stem}\n' for stem in self.stems))

    def names(self) -> list[str]:
        """Describe a list of its images."""
        return self.stems


Part = CocoPart | VocPart
