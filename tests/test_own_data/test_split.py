"""A split by seed: repeatable, without a class lost to training, and what looks alike on one side."""

import json

import numpy as np
import pytest
from PIL import Image, ImageEnhance

from ean_mmdet.errors import InputError
from ean_mmdet.own_data.parts import CocoPart
from ean_mmdet.own_data.split import group_alike, split_part


def part_of(folder, labels: list[list[int]], images: list[Image.Image] | None = None) -> CocoPart:
    """A data set of images of noise, with a box of each class in a list."""
    generator = np.random.default_rng(0)
    folder.mkdir(parents=True, exist_ok=True)
    entries, boxes = [], []
    for number, classes in enumerate(labels):
        if images is None:
            picture = Image.fromarray(generator.integers(0, 256, (8, 8, 3), dtype=np.uint8)).resize((64, 64))
        else:
            picture = images[number]
        picture.save(folder / f'{number:03d}.jpg')
        entries.append(dict(id=number, file_name=f'{number:03d}.jpg', width=64, height=64))
        for label in classes:
            boxes.append(dict(id=len(boxes), image_id=number, category_id=label, bbox=[1, 1, 9, 9], area=81, iscrowd=0))
    names = sorted({label for classes in labels for label in classes})
    categories = [dict(id=label, name=f'class {label}') for label in names]
    return CocoPart(
        'all', json.loads(json.dumps(dict(images=entries, annotations=boxes, categories=categories))), folder
    )


def test_a_seed_gives_the_same_split_and_another_one_another(tmp_path):
    part = part_of(tmp_path, [[number % 3] for number in range(30)])
    names = part.class_names()
    first, again, other = (split_part(part, names, seed=seed)[0] for seed in (0, 0, 1))
    assert first['val'].names() == again['val'].names() != other['val'].names()
    assert len(first['val'].names()) == 6
    assert sorted(first['train'].names() + first['val'].names()) == part.names()
    assert len(split_part(part, names, fraction=0.5)[0]['val'].names()) == 15


def test_a_class_with_one_box_is_learned(tmp_path):
    part = part_of(tmp_path, [[0, 1]] * 19 + [[0, 2]])
    for seed in range(5):
        parts, notes = split_part(part, part.class_names(), seed=seed)
        assert '019.jpg' in parts['train'].names() and len(parts['val'].names()) == 4
        assert any('1 classes have no image to validate on, so their AP is not measured: class 2' in n for n in notes)


def test_two_images_with_a_class_each_still_make_a_split(tmp_path):
    parts, _ = split_part(part_of(tmp_path, [[0], [1]]), ['class 0', 'class 1'])
    assert len(parts['train'].names()) == len(parts['val'].names()) == 1


def scene(seed: int) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    return Image.fromarray(pixels).resize((96, 96), Image.Resampling.BICUBIC)


def test_bursts_and_copies_stay_on_one_side(tmp_path):
    scenes = [scene(seed) for seed in range(12)]
    shots = []
    for number, picture in enumerate(scenes):
        brighter = ImageEnhance.Brightness(picture).enhance(1.05)
        shots += [picture, brighter, picture.crop((1, 1, 95, 95)).resize((96, 96))] if number < 4 else [picture]
    part = part_of(tmp_path, [[0]] * len(shots), shots)
    groups = group_alike(part.paths())
    assert groups.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3, *range(4, 12)]
    for seed in range(4):
        parts, notes = split_part(part, ['class 0'], seed=seed)
        sides = [{int(groups[int(name[:3])]) for name in parts[role].names()} for role in ('train', 'val')]
        assert not sides[0] & sides[1]
        assert any('12 images look alike in 4 groups, the largest of 3' in note for note in notes)


def test_augmented_copies_are_one_by_their_names(tmp_path):
    for number, name in enumerate(('a_jpg.rf.12ab', 'b_jpg.rf.34cd', 'a_jpg.rf.56ef', 'c')):
        scene(number).save(tmp_path / f'{name}.jpg')
    paths = [tmp_path / f'{name}.jpg' for name in ('a_jpg.rf.12ab', 'b_jpg.rf.34cd', 'a_jpg.rf.56ef', 'c')]
    assert group_alike(paths).tolist() == [0, 1, 0, 2]


def test_images_that_make_no_split(tmp_path):
    with pytest.raises(InputError, match='all 5 images of all look alike'):
        split_part(part_of(tmp_path / 'a', [[0]] * 5, [scene(0)] * 5), ['class 0'])
    with pytest.raises(InputError, match='has 1 image; to train and to validate takes two'):
        split_part(part_of(tmp_path / 'b', [[0]]), ['class 0'])
    with pytest.raises(InputError, match=r'--val-fraction must be between 0 and 1, got 1\.5'):
        split_part(part_of(tmp_path / 'c', [[0]] * 3), ['class 0'], fraction=1.5)
    part = part_of(tmp_path / 'd', [[0]] * 3)
    (tmp_path / 'd/001.jpg').write_bytes(b'no image')
    with pytest.raises(InputError, match=r'001\.jpg cannot be read'):
        split_part(part, ['class 0'])
