"""Check of image files, and their sizes as OpenCV loads them: by existence and header, or every pixel.

What was found of a file is kept in ``$EAN_CACHE`` (``~/.cache/ean_mmdet``) by its path, size and time, so that only new
and changed files are read again.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import cv2
from PIL import Image, UnidentifiedImageError

from ..errors import InputError
from ..files import cache_folder, write_text

THREADS = 16
ENDS = {'JPEG': b'\xff\xd9', 'PNG': b'IEND'}
ORIENTATION = 0x0112  # the EXIF tag
# What every build of OpenCV reads; of other formats it is asked.
COMMON = ('JPEG', 'MPO', 'PNG', 'BMP', 'WEBP', 'TIFF')
HEIF = (b'ftypheic', b'ftypheix', b'ftypmif1', b'ftypmsf1')


class ImageSize(NamedTuple):
    """Width and height of an image, turned as its EXIF orientation says, which OpenCV does unless told otherwise."""

    width: int
    height: int
    orientation: int = 1

    @property
    def turned(self) -> bool:
        """True where the stored image is the other way round."""
        return self.orientation >= 5

    @property
    def stored(self) -> tuple[int, int]:
        """Width and height of the stored image."""
        return (self.height, self.width) if self.turned else (self.width, self.height)


def inspect_images(
    paths: Iterable[Path], decode: bool = False, progress: Callable[[Iterable, int], Iterable] | None = None
) -> dict[Path, ImageSize | str]:
    """Each image's size, or what is wrong with it.

    Args:
        paths: The files.
        decode: Whether to decode the whole image, which finds what a header doesn't tell. Defaults to False.
        progress: Passes on new images one by one, of a number, and shows how far they are. Defaults to None.
    """
    by_folder: dict[Path, list[Path]] = {}
    for path in dict.fromkeys(paths):
        by_folder.setdefault(path.parent, []).append(path)
    results: dict[Path, ImageSize | str] = {}
    with ThreadPoolExecutor(THREADS) as pool, _any_size():
        for folder, files in by_folder.items():
            known = _load(folder, decode)
            stamps = dict(zip(files, pool.map(_stamp, files, chunksize=256)))
            new = [path for path in files if known.get(path.name, [()])[0] != stamps[path]]
            done = pool.map(lambda path: _inspect(path, decode), new, chunksize=16)
            found = dict(zip(new, progress(done, len(new)) if progress else done))
            for path in files:
                result = found[path] if path in found else ImageSize(*known[path.name][1])
                results[path] = result
                if path in found and not isinstance(result, str):
                    known[path.name] = [stamps[path], list(result)]
            if found:
                _store(folder, decode, known)
    return results


@contextlib.contextmanager
def _any_size() -> Iterator[None]:
    """Pillow's limit, which is against attacks, set aside: OpenCV, which loads the images, has one of its own."""
    limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
    try:
        yield
    finally:
        Image.MAX_IMAGE_PIXELS = limit


def describe_problems(results: dict[Path, ImageSize | str], what: str) -> str | None:
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


def _inspect(path: Path, decode: bool) -> ImageSize | str:
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
            (width, height), kind = image.size, image.format or ''
            exif = 'exif' in image.info or kind in ('TIFF', 'MPO')  # else Pillow may decode a whole PNG to look for it
            orientation = image.getexif().get(ORIENTATION, 1) if exif else 1
    except UnidentifiedImageError:
        return _unknown_to_pillow(path)
    except (OSError, SyntaxError, ValueError) as error:
        return f'damaged, {str(error).splitlines()[0]}'
    if kind not in COMMON and not cv2.haveImageReader(str(path)):
        return f'a {kind} file, which OpenCV does not read'
    end = ENDS.get(kind)
    turned = isinstance(orientation, int) and 1 < orientation <= 8
    # Without its end a file may still be good enough for OpenCV, and an orientation counts as OpenCV takes it.
    if not decode and not turned and not (end and not _ends(path, end)):
        return ImageSize(width, height)
    pixels = _decoded(path)
    if pixels is None:
        too_large = width * height > PIXEL_LIMIT
        return f'larger than the {PIXEL_LIMIT} pixels that OpenCV takes' if too_large else 'damaged or truncated'
    swapped = turned and orientation >= 5 and pixels == (height, width)
    return ImageSize(*pixels, orientation if swapped or (turned and orientation < 5) else 1)


PIXEL_LIMIT = int(os.environ.get('OPENCV_IO_MAX_IMAGE_PIXELS') or 1 << 30)


def _decoded(path: Path) -> tuple[int, int] | None:
    """Width and height of an image as OpenCV loads it; None where it can't."""
    try:
        pixels = cv2.imread(str(path), cv2.IMREAD_COLOR)
    except cv2.error:  # beyond its limit
        return None
    return None if pixels is None else (pixels.shape[1], pixels.shape[0])


def _unknown_to_pillow(path: Path) -> ImageSize | str:
    """An image in a format that OpenCV reads and Pillow doesn't, such as OpenEXR; or what it is."""
    with open(path, 'rb') as file:
        head = file.read(16)
    if head[4:12] in HEIF:
        return 'a HEIC file, which OpenCV does not read'
    size = _decoded(path) if cv2.haveImageReader(str(path)) else None
    return ImageSize(*size) if size else 'no image'


def _ends(path: Path, mark: bytes) -> bool:
    """Tell whether a file's last kilobyte has a mark, behind which cameras put what they like."""
    with open(path, 'rb') as file:
        file.seek(max(os.path.getsize(path) - 1024, 0))
        return mark in file.read()


def _file(folder: Path, decode: bool) -> Path:
    name = hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:24]
    return cache_folder() / 'images' / f'{name}{"-decoded" if decode else ""}-v2.json'


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
    paths: list[Path],
    split: str,
    source: str,
    hint: str,
    decode: bool = False,
    progress: Callable[[Iterable, int], Iterable] | None = None,
) -> dict[Path, ImageSize]:
    """The sizes of the images that a data set holds.

    Raises:
        InputError: One of them can't be used.
    """
    results = inspect_images(paths, decode, progress)
    missing = [path for path, result in results.items() if result == 'missing']
    if missing:
        folder = missing[0].parent
        nowhere = '' if folder.is_dir() else f' (there is no folder {folder})'
        raise InputError(
            f'{split} data: {len(missing)} of the {len(results)} images that {source} lists are missing{nowhere}, the '
            f'first of them {missing[0]}; {hint}'
        )
    problem = describe_problems(results, source)
    if problem:
        raise InputError(f'{split} data: {problem}')
    return {path: size for path, size in results.items() if isinstance(size, ImageSize)}  # all of them
