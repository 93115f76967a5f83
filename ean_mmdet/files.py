"""Finding images, and writing files so that a kill or a full disk leaves either the old one or the new one."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path

from .errors import InputError

IMAGE_SUFFIXES = ('.jpg', '.jpeg', '.png', '.bmp', '.tif', '.tiff', '.webp')


def cache_folder() -> Path:
    """The user's cache folder for what is dear to find out again: ``$EAN_CACHE``, or ``~/.cache/ean_mmdet``."""
    return Path(os.environ.get('EAN_CACHE') or Path.home() / '.cache' / 'ean_mmdet')


def find_images(path: Path) -> list[Path]:
    """The image itself, or everything below a folder that is named like one.

    Raises:
        InputError: There is none.
    """
    if path.is_file():
        return [path]
    images = sorted(p for p in path.rglob('*') if p.suffix.lower() in IMAGE_SUFFIXES)
    if not images:
        what = 'holds no image' if path.is_dir() else 'is neither an image nor a folder'
        raise InputError(f'{path} {what}; images end in {", ".join(IMAGE_SUFFIXES)}')
    return images


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Write a file so that it appears under its name whole or not at all; its folder is created.

    Args:
        path: The file.
        write: Writes to the path that it is given.

    Raises:
        InputError: The folder can't be written to, or is full.
    """
    partial = path.with_name(f'.{path.name}.{os.getpid()}.partial')
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(partial)
        with open(partial, 'rb') as file:
            os.fsync(file.fileno())
        os.replace(partial, path)
    except OSError as error:
        raise InputError(f'cannot write {path}: {error}') from error
    finally:
        with contextlib.suppress(OSError):  # its folder may be none
            partial.unlink()


def write_text(path: Path, text: str) -> None:
    """Write a text, whole or not at all; see :func:`write_whole`."""
    write_whole(path, lambda partial: partial.write_text(text))


def make_folder(path: Path) -> None:
    """Make a folder to write to, if it isn't there.

    Raises:
        InputError: It can't be created or written to.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        probe = path / f'.probe{os.getpid()}'
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise InputError(f'cannot write to the folder {path}: {error}') from error
