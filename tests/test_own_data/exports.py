"""A few images with boxes as annotation tools export them: COCO, VOC, YOLO; Roboflow, Label Studio, by hand."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import yaml
from PIL import Image

Splits = dict[str, list['Picture']]


@dataclass
class Picture:
    """An image and its boxes: class, x, y, width and height in pixels from 0 on."""

    path: Path
    size: tuple[int, int]
    boxes: list[tuple[str, float, float, float, float]]
    difficult: bool = False


def pictures_of_coco(file: Path, folder: Path, number: int | None = None) -> list[Picture]:
    content = json.loads(file.read_text())
    names = {category['id']: category['name'] for category in content['categories']}
    boxes: dict = {image['id']: [] for image in content['images']}
    for box in content['annotations']:
        boxes[box['image_id']].append((names[box['category_id']], *box['bbox']))
    images = content['images'][:number]
    return [
        Picture(folder / image['file_name'], (image['width'], image['height']), boxes[image['id']]) for image in images
    ]


def pictures_of_voc(root: Path, split: str, number: int | None = None) -> list[Picture]:
    pictures = []
    for stem in (root / f'ImageSets/Main/{split}.txt').read_text().split()[:number]:
        tree = ElementTree.parse(root / f'Annotations/{stem}.xml').getroot()
        size = tuple(int(tree.findtext(f'size/{key}')) for key in ('width', 'height'))
        boxes = []
        for box in tree.iter('object'):
            x1, y1, x2, y2 = (int(box.findtext(f'bndbox/{key}')) for key in ('xmin', 'ymin', 'xmax', 'ymax'))
            boxes.append((box.findtext('name'), x1 - 1, y1 - 1, x2 - x1, y2 - y1))  # VOC counts from 1
        pictures.append(Picture(root / f'JPEGImages/{stem}.jpg', size, boxes))
    return pictures


def put(picture: Picture, folder: Path, name: str | None = None) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / (name or picture.path.name)
    if target.suffix == picture.path.suffix:
        shutil.copyfile(picture.path, target)
    else:
        Image.open(picture.path).save(target)
    return target


def coco(pictures: list[Picture], classes: list[str], prefix: str = '', first: int = 1, **more) -> dict:
    images, annotations = [], []
    for number, picture in enumerate(pictures):
        width, height = picture.size
        images.append(dict(id=number, file_name=prefix + picture.path.name, width=width, height=height))
        for name, *box in picture.boxes:
            annotations.append(
                dict(
                    id=len(annotations) + 1, image_id=number, category_id=first + classes.index(name), bbox=box,
                    area=box[2] * box[3], iscrowd=0, segmentation=[],
                )
            )  # fmt: skip
    categories = [dict(id=first + number, name=name, **more) for number, name in enumerate(classes)]
    return dict(images=images, annotations=annotations, categories=categories)


def coco_roboflow(folder: Path, splits: Splits, classes: list[str], project: str = 'shapes') -> Path:
    for split, pictures in splits.items():
        content = coco(pictures, classes, supercategory=project)
        content['categories'].insert(0, dict(id=0, name=project, supercategory='none'))
        for picture in pictures:
            put(picture, folder / split)
        (folder / split / '_annotations.coco.json').write_text(json.dumps(content))
    return folder


def coco_label_studio(folder: Path, pictures: list[Picture], classes: list[str], prefix: str = 'images\\') -> Path:
    content = coco(pictures, classes, prefix, first=0)
    for picture in pictures:
        put(picture, folder / 'images')
    (folder / 'result.json').write_text(json.dumps(content))
    return folder


def coco_folders(folder: Path, splits: Splits, classes: list[str]) -> Path:
    """COCO's own: ``annotations/instances_train2017.json`` and ``train2017/``."""
    (folder / 'annotations').mkdir(parents=True)
    for split, pictures in splits.items():
        for picture in pictures:
            put(picture, folder / f'{split}2017')
        content = json.dumps(coco(pictures, classes))
        (folder / 'annotations' / f'instances_{split}2017.json').write_text(content)
    return folder


def xml(picture: Picture, name: str) -> str:
    root = ElementTree.Element('annotation')
    ElementTree.SubElement(root, 'filename').text = name
    size = ElementTree.SubElement(root, 'size')
    for key, value in zip(('width', 'height', 'depth'), (*picture.size, 3)):
        ElementTree.SubElement(size, key).text = str(value)
    for label, x, y, width, height in picture.boxes:
        box = ElementTree.SubElement(root, 'object')
        ElementTree.SubElement(box, 'name').text = label
        ElementTree.SubElement(box, 'difficult').text = str(int(picture.difficult))
        corners = ElementTree.SubElement(box, 'bndbox')
        for key, value in zip(('xmin', 'ymin', 'xmax', 'ymax'), (x + 1, y + 1, x + width + 1, y + height + 1)):
            ElementTree.SubElement(corners, key).text = str(round(value))
    return ElementTree.tostring(root, encoding='unicode')


def voc(folder: Path, splits: Splits, lists: bool = True, suffix: str = '.jpg') -> Path:
    """VOCdevkit's: ``Annotations/``, ``JPEGImages/`` and, with lists, ``ImageSets/Main/``."""
    (folder / 'Annotations').mkdir(parents=True)
    for split, pictures in splits.items():
        for picture in pictures:
            name = put(picture, folder / 'JPEGImages', picture.path.stem + suffix).name
            (folder / 'Annotations' / f'{picture.path.stem}.xml').write_text(xml(picture, name))
        if lists:
            (folder / 'ImageSets/Main').mkdir(parents=True, exist_ok=True)
            names = ''.join(f'{picture.path.stem}\n' for picture in pictures)
            (folder / f'ImageSets/Main/{split}.txt').write_text(names)
    return folder


def voc_roboflow(folder: Path, splits: Splits) -> Path:
    """Annotations beside the images."""
    for split, pictures in splits.items():
        for picture in pictures:
            put(picture, folder / split)
            (folder / split / f'{picture.path.stem}.xml').write_text(xml(picture, picture.path.name))
    return folder


def yolo_rows(picture: Picture, classes: list[str]) -> str:
    width, height = picture.size
    rows = []
    for name, x, y, w, h in picture.boxes:
        values = ((x + w / 2) / width, (y + h / 2) / height, w / width, h / height)
        rows.append(' '.join([str(classes.index(name)), *(f'{value:.10f}' for value in values)]))
    return '\n'.join(rows) + ('\n' if rows else '')


def yolo_files(images: Path, labels: Path, pictures: list[Picture], classes: list[str]) -> None:
    labels.mkdir(parents=True, exist_ok=True)
    for picture in pictures:
        put(picture, images)
        (labels / f'{picture.path.stem}.txt').write_text(yolo_rows(picture, classes))


def yolo_roboflow(folder: Path, splits: Splits, classes: list[str]) -> Path:
    """``data.yaml`` with paths one folder too high, as Roboflow writes it, and ``train/images``, ``train/labels``, …"""
    keys = dict(train='train', valid='val', test='test')
    content: dict = {keys[split]: f'../{split}/images' for split in splits}
    content.update(nc=len(classes), names=classes, roboflow=dict(project='shapes', version=1))
    for split, pictures in splits.items():
        yolo_files(folder / split / 'images', folder / split / 'labels', pictures, classes)
    (folder / 'data.yaml').write_text(yaml.safe_dump(content))
    return folder


def yolo_label_studio(folder: Path, pictures: list[Picture], classes: list[str]) -> Path:
    """``classes.txt``, ``notes.json``, ``images/`` and ``labels/``."""
    yolo_files(folder / 'images', folder / 'labels', pictures, classes)
    (folder / 'classes.txt').write_text('\n'.join(classes))
    notes = dict(categories=[dict(id=number, name=name) for number, name in enumerate(classes)], info=dict(year=2026))
    (folder / 'notes.json').write_text(json.dumps(notes))
    return folder


def yolo_split(folder: Path, splits: Splits, classes: list[str]) -> Path:
    """``images/train``, ``labels/train``, …, as Ultralytics has it, without a ``data.yaml``."""
    for split, pictures in splits.items():
        yolo_files(folder / 'images' / split, folder / 'labels' / split, pictures, classes)
    return folder
