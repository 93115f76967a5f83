"""What is kept of images that were looked at, and when it is looked at again."""

import json
import os

import mmcv
import numpy as np
import pytest
from PIL import Image

from ean_mmdet.datasets import images
from ean_mmdet.datasets.images import ImageSize, inspect_images


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv('EAN_CACHE', str(tmp_path / 'cache'))
    (tmp_path / 'images').mkdir()
    noise = np.random.default_rng(0).integers(0, 255, (40, 60, 3), dtype=np.uint8)
    for name in ('a.jpg', 'b.png', 'c.jpg'):
        Image.fromarray(noise).save(tmp_path / 'images' / name)
    return tmp_path / 'images'


def look(folder, monkeypatch, **arguments):
    """What is found, and which files were opened for it."""
    opened, inspect = [], images._inspect
    monkeypatch.setattr(images, '_inspect', lambda path, decode: opened.append(path.name) or inspect(path, decode))
    results = inspect_images(sorted(folder.iterdir()), **arguments)
    monkeypatch.setattr(images, '_inspect', inspect)
    return {path.name: result for path, result in results.items()}, sorted(opened)


def test_only_new_and_changed_files_are_read_again(folder, monkeypatch):
    results, opened = look(folder, monkeypatch)
    assert results == dict.fromkeys(('a.jpg', 'b.png', 'c.jpg'), ImageSize(60, 40)) and len(opened) == 3
    assert look(folder, monkeypatch) == (results, [])
    Image.new('RGB', (5, 7)).save(folder / 'a.jpg')
    os.utime(folder / 'c.jpg', (1, 1))
    assert look(folder, monkeypatch) == (dict(results, **{'a.jpg': ImageSize(5, 7)}), ['a.jpg', 'c.jpg'])


def test_what_is_wrong_is_looked_at_every_time(folder, monkeypatch):
    (folder / 'a.jpg').write_bytes(b'')
    for _ in range(2):
        results, opened = look(folder, monkeypatch)
        assert results['a.jpg'] == 'empty' and 'a.jpg' in opened


def test_a_cache_that_is_damaged_or_cannot_be_written(folder, monkeypatch, tmp_path):
    expected, _ = look(folder, monkeypatch)
    (file,) = (tmp_path / 'cache/images').iterdir()
    for content in ('', '[1]', '{'):
        file.write_text(content)
        assert look(folder, monkeypatch)[0] == expected
    assert json.loads(file.read_text())
    monkeypatch.setenv('EAN_CACHE', str(folder / 'a.jpg'))
    assert look(folder, monkeypatch)[0] == expected


def test_decoding_finds_what_a_header_does_not_tell(folder, monkeypatch):
    content = bytearray((folder / 'b.png').read_bytes())
    middle = len(content) // 2
    content[middle : middle + 400] = bytes(400)
    (folder / 'b.png').write_bytes(content)
    assert look(folder, monkeypatch)[0]['b.png'] == ImageSize(60, 40)
    assert look(folder, monkeypatch, decode=True)[0]['b.png'] == 'damaged or truncated'


def test_formats_that_opencv_does_not_read_are_named(folder):
    Image.new('RGB', (8, 8)).save(folder / 'a.jpg', 'DDS')
    (folder / 'c.jpg').write_bytes(b'\0\0\0\x18ftypheic\0\0\0\0mif1heic')
    results = {path.name: result for path, result in inspect_images(sorted(folder.iterdir())).items()}
    assert results['a.jpg'] == 'a DDS file, which OpenCV does not read'
    assert results['c.jpg'] == 'a HEIC file, which OpenCV does not read'


def test_a_limit_of_pillows_is_no_damage(folder, monkeypatch):
    monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', 100)
    results = inspect_images([folder / 'a.jpg'])
    assert results[folder / 'a.jpg'] == ImageSize(60, 40) and Image.MAX_IMAGE_PIXELS == 100


@pytest.mark.parametrize('orientation', range(1, 9))
def test_sizes_are_those_that_are_loaded(folder, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.new('RGB', (60, 40)).save(folder / 'a.jpg', exif=exif)
    size = inspect_images([folder / 'a.jpg'])[folder / 'a.jpg']
    assert (size.height, size.width) == mmcv.imread(str(folder / 'a.jpg')).shape[:2]
    assert size.stored == (60, 40) and size.orientation == orientation
    # the same where it is known
    assert inspect_images([folder / 'a.jpg'])[folder / 'a.jpg'] == size
