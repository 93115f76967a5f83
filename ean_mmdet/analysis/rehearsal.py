"""Some iterations of a config's training on made-up images: what memory and time it takes, before the data is there.

The model, the pipeline, the batch, the optimizer and the hooks are the config's; only the images are drawn, and the
learning rate is next to nothing.
"""

from __future__ import annotations

import json
import math
import shutil
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.runner import Runner
from PIL import Image

from ..checkpoint.convert import without_checkpoints
from ..datasets.config_parts import dataset_classes, datasets_of, is_classifier, type_name
from ..engine import build_runner
from ..errors import InputError

WARM_UP = 3  # iterations that aren't timed
# Width and height of usual images, and how many the training part has, by the data set's type.
KNOWN = {
    'CocoDataset': ((640, 480), 117_266),
    'VOCDataset': ((500, 375), 16_551),
    'ImageNet': ((500, 375), 1_281_167),
    'CIFAR10FolderOrBinary': ((32, 32), 50_000),
    'CIFAR100FolderOrBinary': ((32, 32), 50_000),
}
BOXES = 7  # an image, as on COCO


class _Clock(Hook):
    """Times each iteration, and how much of it went by waiting for the data."""

    def __init__(self) -> None:
        self.steps: list[float] = []
        self.waits: list[float] = []
        self.losses: list[float] = []
        self._end: float | None = None

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        if self._end is not None:
            self.waits.append(time.perf_counter() - self._end)

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        now = time.perf_counter()
        if self._end is not None:
            self.steps.append(now - self._end)
        self._end = now
        self.losses.append(float(outputs['loss']))


def rehearse(
    config: Config, iterations: int = 20, image_size: tuple[int, int] | None = None, images: int | None = None
) -> dict[str, Any]:
    """Train a config for some iterations on made-up images.

    Args:
        config: A whole config of a detector or classifier.
        iterations: How many, of which the first few aren't timed. Defaults to 20.
        image_size: Width and height of the images, before the pipeline resizes them. Defaults to None, usual ones of
            the config's data set.
        images: How many images the real training data has, for schedules in epochs. Defaults to None, as many as the
            config's public data set has.

    Returns:
        ``seconds``: the median iteration; ``waiting``: the share of it that waits for data; ``batch``; ``loss``: the
        first and the last; ``memory``: the peak in bytes, None without a GPU; ``iterations`` of the whole schedule and
        its ``hours``, None where the number of images isn't known.

    Raises:
        InputError: The config has no training part, its data is neither boxes nor classes of images, or the memory
            doesn't suffice.
    """
    if iterations <= WARM_UP + 1:
        raise InputError(f"--iterations must be more than {WARM_UP + 1}, got {iterations}: the first aren't timed")
    leaves = datasets_of(config, 'train')
    if not leaves:
        raise InputError('the config has no train_dataloader, so there is no training to rehearse')
    known_size, known_images = KNOWN.get(type_name(leaves[0]), ((640, 480), None))
    total = _schedule(config, images or known_images)
    batch = config.train_dataloader['batch_size']
    clock = _Clock()
    with tempfile.TemporaryDirectory() as folder:
        _use_made_up_data(config, leaves, Path(folder), image_size or known_size, batch)
        config.work_dir = str(Path(folder, 'work_dir'))
        _shorten(config, iterations)
        runner = build_runner(config)
        runner.register_hook(clock, 'LOWEST')
        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()
        try:
            runner.train()
        except torch.OutOfMemoryError as error:
            raise InputError(
                f'{batch} images a GPU do not fit its memory: {str(error).splitlines()[0]} Take a smaller '
                f'train_dataloader.batch_size, --amp, or with_cp=True in the backbone'
            ) from error
    steps, waits = clock.steps[WARM_UP - 1 :], clock.waits[WARM_UP - 1 :]
    seconds = median(steps)
    return dict(
        seconds=seconds,
        waiting=sum(waits) / sum(steps),
        batch=batch,
        loss=[clock.losses[0], clock.losses[-1]],
        finite=all(map(math.isfinite, clock.losses)),
        memory=torch.cuda.max_memory_allocated() if torch.cuda.is_available() else None,
        iterations=total,
        hours=None if total is None else total * seconds / 3600,
    )


def _schedule(config: Config, images: int | None) -> int | None:
    """Iterations of the whole schedule on one device; None where that takes a number of images that isn't known."""
    train = config.train_cfg
    if train.get('max_iters'):
        return train['max_iters']
    if not images:
        return None
    return train['max_epochs'] * math.ceil(images / config.train_dataloader['batch_size'])


def _shorten(config: Config, iterations: int) -> None:
    """Have the config train for some iterations, keep nothing, and load nothing from afar."""
    config.train_cfg = dict(type='IterBasedTrainLoop', max_iters=iterations, val_interval=iterations + 1)
    for name in ('val', 'test'):
        for part in ('dataloader', 'cfg', 'evaluator'):
            config.pop(f'{name}_{part}', None)
    config.train_dataloader['sampler'] = dict(type='InfiniteSampler', shuffle=True)
    config.train_dataloader.pop('batch_sampler', None)
    hooks = config.setdefault('default_hooks', {})
    hooks['checkpoint'] = None
    config.pop('visualizer', None)  # one of a process, which would keep a folder that goes
    config.log_processor = dict(type='LogProcessor', window_size=10, by_epoch=False)
    config.load_from, config.resume, config.log_level = None, False, 'WARNING'
    config.auto_scale_lr = None
    if 'optimizer' in config.optim_wrapper:  # on made-up images a usual rate may diverge, and takes as long
        config.optim_wrapper['optimizer']['lr'] = 1e-6
    config.model = without_checkpoints(config.model)


def _use_made_up_data(config: Config, leaves: list[dict], folder: Path, size: tuple[int, int], batch: int) -> None:
    """Put made-up data sets, with the same classes and pipeline, in the place of the config's."""
    classifier = is_classifier(config)
    head = config.model.get('head') or {}
    classes = dataset_classes(config, leaves[0]) or tuple(map(str, range(head.get('num_classes', 80))))
    count = max(2 * batch, 8)
    generator = np.random.default_rng(0)
    (_draw_folders if classifier else _draw_coco)(folder, classes, count, size, generator)
    for leaf in leaves:
        pipeline = list(leaf.get('pipeline') or ())
        if classifier:
            kept: dict[str, Any] = dict(type='CustomDataset', data_root=str(folder), data_prefix='images')
            if not pipeline or not type_name(pipeline[0]).startswith('Load'):  # CIFAR comes decoded
                pipeline = [dict(type='LoadImageFromFile'), *pipeline]
            kept['classes'] = list(classes)
        else:
            kept = dict(
                type='CocoDataset', data_root=str(folder), ann_file='annotations.json',
                data_prefix=dict(img='images/'), metainfo=dict(classes=classes),
            )  # fmt: skip
        leaf.clear()
        leaf.update(kept, pipeline=pipeline)


def _draw(size: tuple[int, int], generator: np.random.Generator) -> Image.Image:
    width, height = size
    coarse = generator.integers(0, 256, (max(height // 16, 1), max(width // 16, 1), 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize(size, Image.Resampling.BILINEAR)


def _draw_folders(
    folder: Path, classes: tuple[str, ...], count: int, size: tuple[int, int], generator: np.random.Generator
) -> None:
    for index in range(count):
        _draw(size, generator).save(folder / f'{index}.jpg')
    for index, name in enumerate(classes):  # each class has one
        place = folder / 'images' / name.replace('/', '_')
        place.mkdir(parents=True, exist_ok=True)
        shutil.copy(folder / f'{index % count}.jpg', place)


def _draw_coco(
    folder: Path, classes: tuple[str, ...], count: int, size: tuple[int, int], generator: np.random.Generator
) -> None:
    (folder / 'images').mkdir()
    width, height = size
    images: list[dict] = []
    annotations: list[dict] = []
    for index in range(count):
        _draw(size, generator).save(folder / 'images' / f'{index}.jpg')
        images.append(dict(id=index, file_name=f'{index}.jpg', width=width, height=height))
        for _ in range(BOXES):
            w, h = (int(side * generator.uniform(0.1, 0.6)) for side in size)
            x, y = int(generator.uniform(0, width - w)), int(generator.uniform(0, height - h))
            annotations.append(
                dict(
                    id=len(annotations), image_id=index, category_id=int(generator.integers(len(classes))),
                    bbox=[x, y, w, h], area=w * h, iscrowd=0,
                    segmentation=[[x, y, x + w, y, x + w, y + h, x, y + h]],
                )
            )  # fmt: skip
    categories = [dict(id=index, name=name) for index, name in enumerate(classes)]
    (folder / 'annotations.json').write_text(
        json.dumps(dict(images=images, annotations=annotations, categories=categories)), encoding='utf-8'
    )
