"""Times what is checked before a run: python -m tests.measure_checks images FOLDER_OF_JPEGS, or coco

images: the check of many images, the first time and the second, and a checkpoint's checksums.
coco: the check of a made-up data set of COCO's size, the first time and with known images, and its memory.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torchvision.models import resnet50

from ean_mmdet.checkpoint.safe_load import check_archive
from ean_mmdet.datasets.images import inspect_images

WIDTH, HEIGHT, CLASSES = 64, 48, 80
# Run in a process of its own, whose memory is then the check's.
CHECK = """
import re, time
from mmdet.datasets import CocoDataset
from mmengine.config import Config
from ean_mmdet.datasets import check_data
dataset = dict(type='CocoDataset', ann_file='train.json', data_prefix=dict(img='images'))
begin = time.perf_counter()
(found,) = check_data(Config(dict(train_dataloader=dict(dataset=dataset))), ('train',))['train']
seconds = time.perf_counter() - begin
peak = int(re.search(r'VmHWM:\\s+(\\d+)', open('/proc/self/status').read())[1])
print(f'{seconds:.1f} s, {found.images} images, {found.kept} boxes, {peak / 1e6:.2f} GB at most')
"""


def seconds(work, *args, **kwargs) -> float:
    """How long a call takes."""
    start = time.perf_counter()
    work(*args, **kwargs)
    return time.perf_counter() - start


def make_coco(folder: Path, images: int, boxes: int) -> None:
    """Write an annotation file, and as many small pictures."""
    from mmdet.datasets import CocoDataset

    file = io.BytesIO()
    Image.new('RGB', (WIDTH, HEIGHT)).save(file, 'JPEG')
    (folder / 'images').mkdir(parents=True)
    for number in range(images):
        (folder / f'images/{number:012d}.jpg').write_bytes(file.getvalue())
    rng = np.random.default_rng(0)
    corners = (rng.random((boxes, 2)) * (WIDTH / 2, HEIGHT / 2)).round(2).tolist()
    sides = (1 + rng.random((boxes, 2)) * (WIDTH / 2 - 1, HEIGHT / 2 - 1)).round(2).tolist()
    owners, kinds = rng.integers(images, size=boxes).tolist(), rng.integers(CLASSES, size=boxes).tolist()
    content = dict(
        images=[
            dict(id=n, file_name=f'{n:012d}.jpg', width=WIDTH, height=HEIGHT, license=1, date_captured='2013-11-14')
            for n in range(images)
        ],
        annotations=[
            dict(id=n, image_id=owner, category_id=kind, bbox=corner + side, area=side[0] * side[1], iscrowd=0)
            for n, (owner, kind, corner, side) in enumerate(zip(owners, kinds, corners, sides))
        ],
        categories=[dict(id=n, name=name) for n, name in enumerate(CocoDataset.METAINFO['classes'])],
    )
    (folder / 'train.json').write_text(json.dumps(content))


def measure_coco(folder: Path, images: int, boxes: int) -> None:
    """Print what the check takes, twice."""
    if not (folder / 'train.json').is_file():
        print(f'{seconds(make_coco, folder, images, boxes):.0f} s to write {images} images and {boxes} boxes')
    with tempfile.TemporaryDirectory() as cache:
        for when in ('first', 'with known images'):
            env = {**os.environ, 'EAN_CACHE': cache, 'PYTHONPATH': str(Path(__file__).parents[1])}
            result = subprocess.run(
                [sys.executable, '-W', 'ignore', '-c', CHECK], cwd=folder, env=env, stdout=subprocess.PIPE, text=True
            )
            print(f'{when}: {result.stdout.strip()}')


def measure_images(folder: Path) -> None:
    """Print what the check of images and of checksums takes."""
    files = sorted(folder.rglob('*.jpg'))
    with tempfile.TemporaryDirectory() as cache:
        os.environ['EAN_CACHE'] = cache
        first, second = seconds(inspect_images, files), seconds(inspect_images, files)
        print(f'{len(files)} images: {first:.1f} s the first time, {second:.1f} s the second')
        model, path = resnet50(), Path(cache, 'resnet50.pth')
        optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
        model(torch.randn(2, 3, 64, 64)).sum().backward()
        optimizer.step()
        torch.save(dict(state_dict=model.state_dict(), optimizer=optimizer.state_dict()), path)
        loads = [seconds(torch.load, path, weights_only=True) for _ in range(7)]
        sums = [seconds(check_archive, str(path)) for _ in range(7)]
        print(
            f'{path.stat().st_size / 1e6:.0f} MB: loading {statistics.median(loads):.2f} s, '
            f'checksums {statistics.median(sums):.2f} s'
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('what', choices=['images', 'coco'])
    parser.add_argument(
        'folder', type=Path, nargs='?', help='of images; with coco, where to write (default: a new one)'
    )
    parser.add_argument('--images', type=int, default=118_000, help='images of coco (default: %(default)s)')
    parser.add_argument('--boxes', type=int, default=800_000, help='boxes of coco (default: %(default)s)')
    args = parser.parse_args()
    if args.what == 'images':
        measure_images(args.folder)
    elif args.folder:
        measure_coco(args.folder, args.images, args.boxes)
    else:
        with tempfile.TemporaryDirectory() as folder:
            measure_coco(Path(folder), args.images, args.boxes)


if __name__ == '__main__':
    main()
