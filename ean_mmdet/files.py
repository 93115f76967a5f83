"""Finding images, and writing files so that a kill or a full disk leaves either the old one or the new one."""

from __future__ import annotations

import codecs
import contextlib
import json
import os
from collections import Counter
from collections.abc import Callable
from itertools import count
from pathlib import Path

from .errors import InputError

IMAGE_SUFFIXES = ('.jpg', '.jpeg', '.png', '.bmp', '.tif', '.tiff', '.webp')


def cache_folder() -> Path:
    """The user's cache folder for what is dear to find out again: ``$EAN_CACHE``, or ``~/.cache/ean_mmdet``."""
    return Path(os.environ.get('EAN_CACHE') or Path.home() / '.cache' / 'ean_mmdet')


# Folders that systems put beside people's images, with previews and copies of attributes in them.
NOT_PEOPLES = ('__MACOSX', '@eaDir')


def find_images(path: Path) -> list[Path]:
    """The image itself, or everything below a folder that is named like one.

    Hidden files and folders, such as ``._x.jpg`` of macOS and ``.thumbnails``, are passed over.

    Raises:
        InputError: There is none.
    """
    if path.is_file():
        return [path]
    found = (p for p in path.rglob('*') if p.suffix.lower() in IMAGE_SUFFIXES)
    images = sorted(p for p in found if not any(map(_is_hidden, p.relative_to(path).parts)))
    if not images:
        what = 'holds no image' if path.is_dir() else 'is neither an image nor a folder'
        raise InputError(f'{path} {what}; images end in {", ".join(IMAGE_SUFFIXES)}')
    return images


def _is_hidden(name: str) -> bool:
    return name.startswith('.') or name in NOT_PEOPLES


def picture_names(images: list[Path], root: Path, suffix: str = '.jpg') -> dict[Path, Path]:
    """Choose the path of each image's picture below an output folder, no two the same.

    It has the image's place below ``root`` and its name, the whole of it, with its suffix, where two would be alike.
    """
    places = {path: path.relative_to(root) for path in images}
    times = Counter(place.with_suffix('') for place in places.values())
    names: dict[Path, Path] = {}
    taken: set[Path] = set()
    for path, place in places.items():
        alike = times[place.with_suffix('')] > 1
        name = place.with_name(f'{place.name}{suffix}') if alike else place.with_suffix(suffix)
        number = 1
        while name in taken:
            number += 1
            name = place.with_name(f'{place.name}.{number}{suffix}')
        names[path] = name
        taken.add(name)
    return names


def left_out(unreadable: list[str], total: int) -> None:
    """See that all files were images, after the work on those that were.

    Raises:
        InputError: Some weren't; names each.
    """
    if unreadable:
        raise InputError(
            f'{len(unreadable)} of the {total} files named as images are left out: {"; ".join(unreadable)}'
        )


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
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
    """Write a text, whole or not at all; see :func:`write_atomically`."""
    write_atomically(path, lambda partial: partial.write_text(text, encoding='utf-8'))


def read_text(path: Path) -> str:
    """Read a text of the user's: UTF-8, with or without a byte-order mark.

    Raises:
        InputError: It is in another encoding, or can't be read.
    """
    try:
        return path.read_text(encoding='utf-8-sig')
    except UnicodeDecodeError as error:
        raise InputError(f'{path} is not in UTF-8 ({error}): save it as UTF-8') from error
    except OSError as error:
        raise InputError(f'{path} cannot be read: {error}') from error


def has_mark(path: Path) -> bool:
    """Whether a file starts with a byte-order mark, which MMDetection and pycocotools can't read."""
    with path.open('rb') as file:
        return file.read(3) == codecs.BOM_UTF8


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


def claim(named: Path | None, default: Path, **inputs: object) -> Path:
    """Choose where results go, so that they take the place of none that was made from other inputs.

    What they are made from is written beside a file, to ``NAME.made_by.json``, and into a folder, to ``made_by.json``:
    the same inputs write over their own results. A file that the user names is written whatever is there.

    Args:
        named: The user's file or folder. None: the default, or that with the first number that is free.
        default: A file, with a suffix, or a folder, without.
        **inputs: What the results are made from: paths, names or lists of them.

    Raises:
        InputError: The user's folder holds the results of other inputs, or can't be written to.
    """
    is_file = bool(default.suffix)
    made_by = {key: _absolute(value) for key, value in inputs.items()}
    numbered = (default.with_stem(f'{default.stem}-{number}') if number > 1 else default for number in count(1))
    place = named or next(path for path in numbered if _made_by(path, is_file) in (made_by, None))
    holds = _made_by(place, is_file)
    if named and not is_file and holds not in (made_by, None):
        raise InputError(
            f'{named} holds the results of {_differing(holds, made_by)}, which would be written over: name another '
            f'folder, or delete that one'
        )
    write_text(_record(place, is_file), json.dumps(made_by, indent=1) + '\n')
    return place


def _record(path: Path, is_file: bool) -> Path:
    return path.with_name(f'{path.name}.made_by.json') if is_file else path / 'made_by.json'


def _made_by(path: Path, is_file: bool) -> dict | None:
    """Return what the results at a path were made from; None where there are none, or a folder that no tool wrote."""
    file = _record(path, is_file)
    if path.exists() and file.is_file():
        with contextlib.suppress(ValueError):
            return json.loads(file.read_text(encoding='utf-8'))
    return {} if is_file and path.exists() else None


def _absolute(value: object) -> object:
    if isinstance(value, (list, tuple)):
        return [_absolute(part) for part in value]
    is_path = isinstance(value, Path) or (isinstance(value, str) and Path(value).exists())
    return str(Path(str(value)).resolve()) if is_path else value


def _differing(one: dict | None, other: dict) -> str:
    return ', '.join(f'{key} {value}' for key, value in (one or {}).items() if value != other.get(key)) or 'other input'
