"""Whether image files can be used: each one's existence, size and header, or its every pixel.

What was found of a file is kept in ``$EAN_CACHE`` (``~/.cache/ean_mmdet``) by its path, size and time, so that only new
and changed files are read again.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
from PIL import Image, UnidentifiedImageError

from ..errors import InputError
from ..files import write_text

THREADS = 16
ENDS = {'JPEG': b'\xff\xd9', 'PNG': b'IEND'}


def cache_folder() -> Path:
    """Where what was found is kept."""
    return Path(os.environ.get('EAN_CACHE') or Path.home() / '.cache' / 'ean_mmdet') / 'images'


def inspect_images(paths: Iterable[Path], decode: bool = False) -> dict[Path, tuple[int, int] | str]:
    """Each image's width and height, or what is wrong with it.

    Args:
        paths: The files.
        decode: Whether to decode the whole image, which finds what a header doesn't tell. Defaults to False.
    """
    by_folder: dict[Path, list[Path]] = {}
    for path in dict.fromkeys(paths):
        by_folder.setdefault(path.parent, []).append(path)
    results = {}
    with ThreadPoolExecutor(THREADS) as pool:
        for folder, files in by_folder.items():
            known = _load(folder, decode)
            stamps = dict(zip(files, pool.map(_stamp, files, chunksize=256)))
            new = [path for path in files if known.get(path.name, [()])[0] != stamps[path]]
            found = dict(zip(new, pool.map(lambda path: _inspect(path, decode), new, chunksize=16)))
            for path in files:
                result = found[path] if path in found else tuple(known[path.name][1])
                results[path] = result
                if path in found and not isinstance(result, str):
                    known[path.name] = [stamps[path], list(result)]
            if found:
                _store(folder, decode, known)
    return results


def describe_problems(results: dict[Path, tuple[int, int] | str], what: str) -> str | None:
    """The problems counted by kind, with an example each; None where there are none."""
    kinds: dict[str, list[Path]] = {}
    for path, result in results.items():
        if isinstance(result, str):
            kinds.setdefault(result, []).append(path)
    if not kinds:
        return None
    bad = sum(map(len, kinds.values()))
    parts = [f'{len(paths)} {kind} ({paths[0]}{", …" if len(paths) > 1 else ""})' for kind, paths in kinds.items()]
    return f'{bad} of the {len(results)} images of {what} cannot be used: {"; ".join(parts)}'


def _stamp(path: Path) -> list[int] | None:
    """Size and time of a file; None where there is none."""
    try:
        stat = os.stat(path)
    except OSError:
        return None
    return [stat.st_size, stat.st_mtime_ns]


def _inspect(path: Path, decode: bool) -> tuple[int, int] | str:
    try:
        stat = os.stat(path)
    except FileNotFoundError:
        return 'links to nothing' if path.is_symlink() else 'missing'
    except OSError as error:
        return f'unreadable, {error.strerror}'
    if os.path.isdir(path):
        return 'a folder'
    if not stat.st_size:
        return 'empty'
    try:
        with Image.open(path) as image:
            size, end = image.size, ENDS.get(image.format or '')
        # Without its end a file may still be good enough for OpenCV, which is what reads it in training.
        if (decode or (end and not _ends(path, end))) and cv2.imread(str(path), cv2.IMREAD_UNCHANGED) is None:
            return 'damaged or truncated'
        return size
    except UnidentifiedImageError:
        return 'no image'
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        return f'damaged, {str(error).splitlines()[0]}'


def _ends(path: Path, mark: bytes) -> bool:
    """Whether a file's last kilobyte has a mark, behind which cameras put what they like."""
    with open(path, 'rb') as file:
        file.seek(max(os.path.getsize(path) - 1024, 0))
        return mark in file.read()


def _file(folder: Path, decode: bool) -> Path:
    name = hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:24]
    return cache_folder() / f'{name}{"-decoded" if decode else ""}.json'


def _load(folder: Path, decode: bool) -> dict[str, list]:
    try:
        known = json.loads(_file(folder, decode).read_bytes())
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}


def _store(folder: Path, decode: bool, known: dict[str, list]) -> None:
    # A cache that can't be written is only slower.
    with contextlib.suppress(OSError, InputError):
        file = _file(folder, decode)
        file.parent.mkdir(parents=True, exist_ok=True)
        write_text(file, json.dumps(known))


def require_images(
    folder: Path, names: list[str], split: str, source: Path, hint: str, decode: bool = False
) -> dict[str, tuple[int, int]]:
    """Width and height of the images that an annotation file lists.

    Raises:
        InputError: It lists none, or one of them can't be used.
    """
    if not names:
        raise InputError(f'{split} data: {source} lists no images')
    if not folder.is_dir():
        raise InputError(
            f'{split} data: {len(names)} of the {len(names)} images that {source} lists are missing (there is no '
            f'folder {folder}), the first of them {folder / names[0]}; {hint}'
        )
    results = inspect_images((folder / name for name in names), decode)
    missing = [path for path, result in results.items() if result == 'missing']
    if missing:
        raise InputError(
            f'{split} data: {len(missing)} of the {len(names)} images that {source} lists are missing, the first of '
            f'them {missing[0]}; {hint}'
        )
    problem = describe_problems(results, str(source))
    if problem:
        raise InputError(f'{split} data: {problem}')
    sizes = {name: results[folder / name] for name in names}
    return {name: size for name, size in sizes.items() if isinstance(size, tuple)}  # all of them
