"""CIFAR-10 and CIFAR-100, from the original binaries or from a folder of images per class.

It builds on MMPretrain, which is why importing `ean_mmdet` alone doesn't import it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from urllib.error import URLError

import cv2
import mmcv
import numpy as np
from mmengine.registry import DATASETS
from mmpretrain.datasets import CIFAR10, CIFAR100

from ..errors import InputError

SUFFIXES = ('.png', '.jpg', '.jpeg', '.bmp', '.ppm', '.webp')


class FolderOrBinary:
    """Additions of the two data sets here to MMPretrain's.

    Where ``data_root`` has a folder of the split, ``train`` or ``test``, with a folder of images per class in it, these
    are read, once and into memory, as the binaries are. Otherwise it is MMPretrain's data set: the binaries, downloaded
    if there are none. Either way an image is 32 × 32 × 3, uint8, in RGB, under ``img``.

    Raises:
        InputError: The class folders aren't the data set's classes, one is empty, an image can't be read or has another
            size; or there is nothing in ``data_root`` and it can't be downloaded either.
    """

    # MMPretrain's
    data_prefix: dict[str, str]
    split: str
    base_name: str
    base_folder: str
    url: str
    CLASSES: Sequence[str]

    def load_data_list(self) -> list[dict]:
        """Load the images and their labels: ``[dict(img=…, gt_label=…), …]``."""
        folder = Path(self.data_prefix['root'], self.split)
        if folder.is_dir():
            return self._load_folder(folder)
        try:
            return super().load_data_list()  # type: ignore[misc]
        except (URLError, OSError, RuntimeError, AssertionError) as error:
            raise InputError(
                f'no {self.base_name} in {self.data_prefix["root"]}: neither {folder}/{self.CLASSES[0]}/… (a folder of '
                f'images per class) nor a whole {self.base_folder}/ (the original binaries), and the download of '
                f'{self.url} failed: {error}'
            ) from error

    def _load_folder(self, folder: Path) -> list[dict]:
        found = sorted(path.name for path in folder.iterdir() if path.is_dir())
        if found != sorted(self.CLASSES):
            unknown, absent = (sorted(set(a) - set(b))[:5] for a, b in ((found, self.CLASSES), (self.CLASSES, found)))
            raise InputError(
                f"{folder} has to hold a folder for each of {self.base_name}'s {len(self.CLASSES)} classes; "
                f'missing: {", ".join(absent) or "none"}; unknown: {", ".join(unknown) or "none"}'
            )
        data = []
        for label, name in enumerate(self.CLASSES):
            paths = sorted(path for path in (folder / name).iterdir() if path.suffix.lower() in SUFFIXES)
            if not paths:
                raise InputError(f'{folder / name} holds no image')
            data += [dict(img=self._read(path), gt_label=label) for path in paths]
        return data

    @staticmethod
    def _read(path: Path) -> np.ndarray:
        try:
            image = mmcv.imfrombytes(path.read_bytes())
        except cv2.error:  # an empty file
            image = None
        if image is None or image.shape != (32, 32, 3):
            size = 'cannot be read as an image' if image is None else f'is {image.shape[1]} × {image.shape[0]}'
            raise InputError(f'{path} {size}; CIFAR images are 32 × 32')
        return np.ascontiguousarray(image[..., ::-1])


@DATASETS.register_module()
class CIFAR10FolderOrBinary(FolderOrBinary, CIFAR10):
    """CIFAR-10 from a folder of images per class or the original binaries. Arguments: those of MMPretrain's CIFAR10."""

    base_name = 'CIFAR-10'


@DATASETS.register_module()
class CIFAR100FolderOrBinary(FolderOrBinary, CIFAR100):
    """CIFAR-100 likewise; the folders are named after the fine labels."""

    base_name = 'CIFAR-100'
