"""VOC's format in a folder: VOCdevkit's with or without lists, Roboflow's with annotations beside the images."""

from __future__ import annotations

import tempfile
from collections import Counter
from pathlib import Path
from xml.etree import ElementTree

from mmengine.config import Config

from ..datasets.held import hold
from ..datasets.voc_check import explain_xml, read_objects
from ..errors import InputError
from ..files import IMAGE_SUFFIXES, has_mark, read_text
from .found import Found, Options, names_in, role_of
from .parts import CLASS_FILES, CocoPart, Part, VocPart, folders_below, listed

LISTS = ('train', 'val', 'trainval', 'test')


def voc_files(folder: Path, options: Options) -> list[Path]:
    """The folders with VOC's annotations."""
    return [place for place in folders_below(folder) if any(map(_is_voc, sorted(place.glob('*.xml'))[:1]))]


def _is_voc(path: Path) -> bool:
    with path.open('rb') as file:
        head = file.read(4096)
    return b'<annotation' in head


def find_voc(folder: Path, options: Options) -> Found:
    """Read VOC annotations in a folder.

    Raises:
        InputError: There are several data sets, or an annotation is none.
    """
    notes: list[str] = []
    places = voc_files(folder, options)
    roots = [place.parent for place in places if place.name.lower() == 'annotations']
    if len(roots) > 1 and not all(role_of(root.name) for root in roots):
        names = [str(root.relative_to(folder)) for root in roots]
        raise InputError(
            f'{folder} holds {len(roots)} VOC data sets, {listed(names)}: give one of them as DATA, {roots[0]}'
        )
    parts: dict[str, VocPart] = {}
    for place in places:
        parts.update(_parts(place, folder, len(places) > 1, options, notes))
    counts = Counter(name for part in parts.values() for name in _class_names(part))
    classes, source = _order(folder, options, counts, notes)
    made: dict[str, Part] = {name: _as_coco(part, classes, notes) for name, part in parts.items()}
    return Found(folder, 'voc', made, classes, source, notes)


def _parts(place: Path, folder: Path, many: bool, options: Options, notes: list[str]) -> dict[str, VocPart]:
    """The splits of a folder of annotations."""
    stems = sorted(path.stem for path in place.glob('*.xml'))
    if place.name.lower() == 'annotations':
        root, ann_subdir = place.parent, place.name
        candidates = [root / 'JPEGImages', root / 'images', root / 'Images', root, place]
    else:
        root, ann_subdir = place, ''
        candidates = [place, *(place.parent / name for name in ('images', 'JPEGImages'))]
    if options.images:
        candidates = [options.images]
    images = {path: _images(path) for path in candidates if path.is_dir()}
    best = max(images, key=lambda path: len(images[path].keys() & set(stems)), default=None)
    if best is None or not images[best].keys() & set(stems):
        raise InputError(
            f'{place} has {len(stems)} annotations, and no image with the name of one, such as {stems[0]}.jpg, is in '
            f'{listed([str(path) for path in candidates], 3)}. Name their folder: --images FOLDER'
        )
    missing = [stem for stem in stems if stem not in images[best]]
    if missing:
        raise InputError(
            f'{len(missing)} of the {len(stems)} annotations in {place} have no image in {best}: {listed(missing, 3)}'
        )
    extra = sorted(images[best].keys() - set(stems))
    if extra:
        notes.append(f'{len(extra)} images of {best} have no annotation and are left out: {listed(extra, 3)}')
    if not ann_subdir and best != place:
        root, ann_subdir = place.parent, place.name
    img_subdir = str(best.relative_to(root)) if best.is_relative_to(root) else str(best)
    whole = VocPart('', root, stems, '' if img_subdir == '.' else img_subdir, ann_subdir)
    lists = [root / 'ImageSets' / 'Main' / f'{name}.txt' for name in LISTS]
    found = {path.stem: path for path in lists if path.is_file()}
    if not found:
        name = (root.name if ann_subdir else place.name) if many else 'all'
        whole.name = name
        return {name: whole}
    parts = {}
    for name, path in found.items():
        names = read_text(path).splitlines()
        parts[name] = VocPart(name, root, names, whole.img_subdir, ann_subdir, None if has_mark(path) else path)
        wrong = [stem for stem in names if stem not in images[best]]
        if wrong:
            raise InputError(
                f'{path} lists {len(wrong)} names of {len(names)} without an annotation or image: '
                f'{listed([repr(stem) for stem in wrong], 3)}; a list has one name a line, without .jpg, and nothing '
                f'else'
            )
    unlisted = sorted(set(stems) - {stem for part in parts.values() for stem in part.stems})
    if unlisted:
        notes.append(f'{len(unlisted)} annotations are in none of the lists and are left out: {listed(unlisted, 3)}')
    return parts


def _images(folder: Path) -> dict[str, Path]:
    return {path.stem: path for path in sorted(folder.iterdir()) if path.suffix.lower() in IMAGE_SUFFIXES}


def _class_names(part: VocPart) -> list[str]:
    names = []
    for path in part.annotations():
        try:
            found = read_objects(path)[0]
            if not all(name.strip() for name in found):
                raise ValueError('an object without a name')
            names += found
        except (ElementTree.ParseError, OSError, ValueError) as error:
            raise InputError(explain_xml(path, error)) from error
    return names


def _order(folder: Path, options: Options, names: Counter, notes: list[str]) -> tuple[tuple[str, ...], str]:
    """The classes: a file's of class names, or in the order of the alphabet, as VOC has no order."""
    if options.classes:
        unknown = [name for name in options.classes if name not in names]
        if unknown:
            raise InputError(f'--classes {unknown[0]}: the annotations have {listed(sorted(names), 20)}')
        left = [name for name in sorted(names) if name not in options.classes]
        if left:
            boxes = sum(names[name] for name in left)
            notes.append(f'{len(left)} classes with {boxes} boxes are left out by --classes: {listed(left)}')
        return options.classes, '--classes'
    for path in (folder / name for name in CLASS_FILES):
        if path.is_file() and set(names) <= set(names_in(path)):
            return names_in(path), path.name
    return tuple(sorted(names)), 'the alphabet, as VOC has no order of classes'


def _as_coco(part: VocPart, classes: tuple[str, ...], notes: list[str]) -> Part:
    """The split itself, or as COCO's where it has other images than MMDetection's VOC can have, ``.jpg``."""
    files = _images(part.root / part.img_subdir)
    others = sorted({files[stem].suffix for stem in part.stems} - {'.jpg'})
    if not others:
        return part
    notes.append(
        f"{part.name}: written as COCO's, as MMDetection reads VOC's images as .jpg alone; these are {listed(others)}"
    )
    with tempfile.TemporaryDirectory() as scratch:
        listing = Path(scratch, 'list.txt')
        part.write(listing)
        dataset = dict(
            type='VOCDataset', ann_file=str(listing), data_prefix=dict(sub_data_root=f'{part.root}/'),
            img_subdir=part.img_subdir, ann_subdir=part.ann_subdir, metainfo=dict(classes=classes),
        )  # fmt: skip
        held = hold(Config(dict(default_scope='mmdet')), dataset, part.name)
    assert held is not None  # a data set of MMDetection's
    images: list[dict] = []
    boxes: list[dict] = []
    for number, info in enumerate(held.loaded):
        name = str(files[info['img_id']].relative_to(part.root))
        images.append(dict(id=number, file_name=name, width=info['width'], height=info['height']))
        for box in info['instances']:
            x1, y1, x2, y2 = box['bbox']
            boxes.append(
                dict(
                    id=len(boxes) + 1, image_id=number, category_id=box['bbox_label'], bbox=[x1, y1, x2 - x1, y2 - y1],
                    area=(x2 - x1) * (y2 - y1), iscrowd=int(bool(box['ignore_flag'])),
                )
            )  # fmt: skip
    categories = [dict(id=number, name=name) for number, name in enumerate(classes)]
    return CocoPart(part.name, dict(images=images, annotations=boxes, categories=categories), part.root)
