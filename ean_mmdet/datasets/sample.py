"""A small detection data set that is drawn, not downloaded: shapes of five classes on cluttered backgrounds.

Classes differ in shape alone; size, position, rotation, colour, texture, background and occlusion vary. It is written
as ordinary COCO JSON and as ordinary VOC XML over the same images, so that any loader of either reads it.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageFilter

CLASSES = ('circle', 'square', 'triangle', 'star', 'cross')
# Shapes are drawn at this multiple of the image's size and scaled down, for smooth edges.
SUPERSAMPLING = 3
# A shape that would leave less than this fraction of another visible isn't drawn.
LEAST_VISIBLE = 0.4


def make_sample_dataset(
    root: str | Path, train: int = 400, val: int = 100, size: tuple[int, int] = (320, 240), seed: int = 0
) -> Path:
    """Draw the sample data set.

    The folder then holds ``JPEGImages/``, ``annotations/instances_{train,val}.json`` (COCO), and ``Annotations/`` and
    ``ImageSets/Main/{train,val,trainval}.txt`` (VOC). The same arguments give the same files.

    Args:
        root: Folder to write to; created if it doesn't exist.
        train: Number of training images. Defaults to 400.
        val: Number of validation images. Defaults to 100.
        size: Width and height of the images in pixels. Defaults to (320, 240).
        seed: Seed of all that is random. Defaults to 0.

    Returns:
        The folder.

    Raises:
        ValueError: A number of images below one, or a size below 64 pixels.
    """
    if train < 1 or val < 1:
        raise ValueError(f'make_sample_dataset: train and val must be at least 1, got {train} and {val}')
    if min(size) < 64:
        raise ValueError(f'make_sample_dataset: images must be at least 64 pixels wide and high, got {size}')
    root = Path(root)
    for folder in ('JPEGImages', 'Annotations', 'annotations', 'ImageSets/Main'):
        (root / folder).mkdir(parents=True, exist_ok=True)
    splits = {'train': range(1, train + 1), 'val': range(train + 1, train + val + 1)}
    for split, indices in splits.items():
        objects = {}
        for index in indices:
            image, objects[index] = draw_image(np.random.default_rng([seed, index]), size)
            image.save(root / 'JPEGImages' / f'{index:06d}.jpg', quality=92)
            _write_voc(root, index, size, objects[index])
        coco = root / 'annotations' / f'instances_{split}.json'
        coco.write_text(json.dumps(_to_coco(objects, size)))
        _write_list(root, split, indices)
    _write_list(root, 'trainval', range(1, train + val + 1))
    return root


def draw_image(generator: np.random.Generator, size: tuple[int, int]) -> tuple[Image.Image, list[dict]]:
    """Draw one image.

    Args:
        generator: Source of everything random.
        size: Width and height in pixels.

    Returns:
        The image, and a dict for each object: ``name``, ``bbox`` (x1, y1, x2, y2 in pixels, of the whole object, hidden
        parts included), ``area`` (of the whole object, in square pixels) and ``visible`` (fraction not hidden).
    """
    image = _background(generator, size)
    masks: list[tuple[Image.Image, Image.Image]] = []  # of the whole object, and of what is seen of it
    names = []
    for _ in range(generator.integers(1, 7)):
        name = CLASSES[generator.integers(len(CLASSES))]
        mask = _shape_mask(generator, size, name)
        free = ImageChops.invert(mask)
        visible = [(whole, ImageChops.multiply(seen, free)) for whole, seen in masks]
        if any(_area(seen) < LEAST_VISIBLE * _area(whole) for whole, seen in visible):
            continue
        image.paste(_texture(generator, size), mask=mask)
        masks = [*visible, (mask, mask)]
        names.append(name)
    objects = []
    for name, (whole, seen) in zip(names, masks):
        box = whole.point(lambda value: 255 * (value > 127)).getbbox()
        area = _area(whole)
        objects.append(dict(name=name, bbox=box, area=area, visible=_area(seen) / area))
    noise = generator.normal(0, generator.uniform(2, 8), (size[1], size[0], 3))
    return Image.fromarray(np.clip(np.asarray(image) + noise, 0, 255).astype(np.uint8)), objects


def _area(mask: Image.Image) -> float:
    return float(np.asarray(mask, dtype=np.float32).sum() / 255)


def _color(generator: np.random.Generator) -> tuple[int, ...]:
    return tuple(int(value) for value in generator.integers(0, 256, 3))


def _background(generator: np.random.Generator, size: tuple[int, int]) -> Image.Image:
    """Soft coloured clouds with lines across, which are no object."""
    coarse = generator.integers(40, 216, (4, 5, 3), dtype=np.uint8)
    image = Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC)
    draw = ImageDraw.Draw(image)
    for _ in range(generator.integers(3, 10)):
        ends = [tuple(int(generator.integers(0, side)) for side in size) for _ in range(2)]
        draw.line(ends, fill=_color(generator), width=int(generator.integers(1, 5)))
    return image.filter(ImageFilter.GaussianBlur(generator.uniform(0, 1.5)))


def _texture(generator: np.random.Generator, size: tuple[int, int]) -> Image.Image:
    """Return the fill of a shape: a colour gradient, at times striped."""
    ends = generator.integers(0, 256, (2, 2, 3)) * 0.4 + generator.integers(0, 256, 3) * 0.6
    image = Image.fromarray(ends.astype(np.uint8)).resize(size, Image.Resampling.BILINEAR)
    if generator.random() < 0.3:
        draw, step, color = ImageDraw.Draw(image), int(generator.integers(6, 16)), _color(generator)
        for x in range(-size[1], size[0], step):
            draw.line([(x, 0), (x + size[1], size[1])], fill=color, width=2)
    return image


def _shape_mask(generator: np.random.Generator, size: tuple[int, int], name: str) -> Image.Image:
    """One shape, somewhere, as an 8-bit mask of the image's size."""
    scale = SUPERSAMPLING
    radius = min(size) * math.exp(generator.uniform(math.log(0.09), math.log(0.3)))
    x, y = (generator.uniform(radius * 0.8, side - radius * 0.8) * scale for side in size)
    stretch, turn = generator.uniform(0.75, 1.33), generator.uniform(0, 2 * math.pi)
    points = _outline(name) * [radius * scale * math.sqrt(stretch), radius * scale / math.sqrt(stretch)]
    rotation = np.array([[math.cos(turn), -math.sin(turn)], [math.sin(turn), math.cos(turn)]])
    mask = Image.new('L', (size[0] * scale, size[1] * scale))
    ImageDraw.Draw(mask).polygon([tuple(point) for point in points @ rotation.T + [x, y]], fill=255)
    return mask.resize(size, Image.Resampling.BOX)


def _outline(name: str) -> np.ndarray:
    """Corners of a shape of radius one around the origin, (number of corners, 2)."""
    if name == 'cross':
        arm = 0.36
        quarter = np.array([[1, -arm], [1, arm], [arm, arm]])
        turns = [np.array([[cos, sin], [-sin, cos]]) for cos, sin in ((1, 0), (0, 1), (-1, 0), (0, -1))]
        return np.concatenate([quarter @ turn for turn in turns])
    corners = {'circle': 40, 'square': 4, 'triangle': 3, 'star': 10}[name]
    angles = np.arange(corners) * 2 * math.pi / corners
    radii = np.where(np.arange(corners) % 2, 0.42, 1.0) if name == 'star' else np.ones(corners)
    return np.stack([radii * np.cos(angles), radii * np.sin(angles)], axis=1)


def _to_coco(objects: dict[int, list[dict]], size: tuple[int, int]) -> dict:
    images = [dict(id=index, file_name=f'{index:06d}.jpg', width=size[0], height=size[1]) for index in objects]
    annotations: list[dict] = []
    for index, boxes in objects.items():
        for box in boxes:
            x1, y1, x2, y2 = box['bbox']
            annotations.append(
                dict(
                    id=len(annotations) + 1,
                    image_id=index,
                    category_id=CLASSES.index(box['name']) + 1,
                    bbox=[x1, y1, x2 - x1, y2 - y1],
                    area=round(box['area'], 1),
                    iscrowd=0,
                )
            )
    return dict(
        info=dict(description='ean_mmdet sample data set, generated'),
        licenses=[],
        images=images,
        annotations=annotations,
        categories=[dict(id=number, name=name) for number, name in enumerate(CLASSES, start=1)],
    )


def _write_voc(root: Path, index: int, size: tuple[int, int], objects: list[dict]) -> None:
    tree = ElementTree.Element('annotation')
    ElementTree.SubElement(tree, 'folder').text = 'JPEGImages'
    ElementTree.SubElement(tree, 'filename').text = f'{index:06d}.jpg'
    element = ElementTree.SubElement(tree, 'size')
    for key, value in zip(('width', 'height', 'depth'), (*size, 3)):
        ElementTree.SubElement(element, key).text = str(value)
    for box in objects:
        element = ElementTree.SubElement(tree, 'object')
        ElementTree.SubElement(element, 'name').text = box['name']
        ElementTree.SubElement(element, 'pose').text = 'Unspecified'
        ElementTree.SubElement(element, 'truncated').text = '0'
        ElementTree.SubElement(element, 'occluded').text = str(int(box['visible'] < 0.99))
        ElementTree.SubElement(element, 'difficult').text = '0'
        corners = ElementTree.SubElement(element, 'bndbox')
        # VOC counts pixels from one, and the last one belongs to the box.
        x1, y1, x2, y2 = box['bbox']
        for key, value in zip(('xmin', 'ymin', 'xmax', 'ymax'), (x1 + 1, y1 + 1, x2, y2)):
            ElementTree.SubElement(corners, key).text = str(value)
    ElementTree.indent(tree)
    ElementTree.ElementTree(tree).write(root / 'Annotations' / f'{index:06d}.xml')


def _write_list(root: Path, split: str, indices: range) -> None:
    lines = ''.join(f'{index:06d}\n' for index in indices)
    (root / 'ImageSets' / 'Main' / f'{split}.txt').write_text(lines)
