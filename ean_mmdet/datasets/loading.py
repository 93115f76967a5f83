"""Loading images that may break in the course of a run, as on a network disk."""

from __future__ import annotations

import multiprocessing

import cv2
from mmcv.transforms import LoadImageFromFile
from mmengine.config import Config
from mmengine.logging import print_log
from mmengine.registry import TRANSFORMS

from ..errors import InputError

ON_ERROR = ('stop', 'skip')


@TRANSFORMS.register_module()
class GuardedLoadImageFromFile(LoadImageFromFile):
    """mmcv's ``LoadImageFromFile`` that names an image which it can't read, and stops the run or leaves the image out.

    Args:
        on_error: ``'stop'`` the run, or ``'skip'`` the image: the data set then draws another one.
            Defaults to ``'stop'``.
        limit: How many times an image may be skipped, in all processes that load for one process that trains.
            Defaults to 100.
        **kwargs: Those of mmcv's ``LoadImageFromFile``.

    Raises:
        ValueError: ``on_error`` is unknown, or ``limit`` below 1.
        InputError: When called, an image can't be read, and it is to stop or the limit is reached.
    """

    def __init__(self, on_error: str = 'stop', limit: int = 100, **kwargs) -> None:
        if on_error not in ON_ERROR:
            raise ValueError(f'broken_images: on_error must be one of {", ".join(ON_ERROR)}, got {on_error!r}')
        if not isinstance(limit, int) or limit < 1:
            raise ValueError(f'broken_images: limit must be a number from 1 on, got {limit!r}')
        super().__init__(**kwargs)
        self.on_error, self.limit = on_error, limit
        self.skipped = multiprocessing.Value('l', 0)  # shared with the processes of a data loader

    def transform(self, results: dict) -> dict | None:
        """Load ``results['img_path']``; None where it is skipped, which has mmengine's data sets draw another one."""
        try:
            return super().transform(results)
        # missing or unreadable, OpenCV's own on an empty file, mmcv's on what is no image
        except (OSError, cv2.error, AssertionError, ValueError) as error:
            broken = f'the image {results["img_path"]} cannot be read: {" ".join(str(error).split())}'
            if self.on_error == 'stop':
                raise InputError(
                    f"{broken}. Mend it and resume; broken_images = dict(on_error='skip') in the config leaves such "
                    f'training images out'
                ) from error
            with self.skipped.get_lock():
                self.skipped.value += 1
                count = self.skipped.value
            if count > self.limit:
                raise InputError(
                    f'{broken}. {self.limit} were left out already, the limit; repair them and resume'
                ) from error
            print_log(f'{broken}. Left out ({count} of at most {self.limit})', logger='current', level=30)
            return None


def guard_loading(config: Config) -> None:
    """Have a config's data sets load images with :class:`GuardedLoadImageFromFile`.

    The config's ``broken_images``, ``dict(on_error='stop', limit=100)`` by default, is for training; an image to
    evaluate on always stops the run, since the metric would be another one without it.
    """
    choice = config.get('broken_images') or {}
    for split in ('train', 'val', 'test'):
        _replace(config.get(f'{split}_dataloader'), dict(choice if split == 'train' else {}))


def _replace(value: object, choice: dict) -> None:
    if isinstance(value, dict):
        if value.get('type') in ('LoadImageFromFile', 'mmcv.LoadImageFromFile', LoadImageFromFile):
            value.update(choice, type='GuardedLoadImageFromFile')
        value = list(value.values())
    if isinstance(value, (list, tuple)):
        for part in value:
            _replace(part, choice)
