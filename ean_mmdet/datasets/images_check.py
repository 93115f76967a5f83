"""Check of a data set's images: readable, and of the sizes that its annotations say."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from rich.console import Console
from rich.progress import track

from ..errors import InputError
from .config_parts import type_name
from .held import README_SECTION, Held, frames, tell
from .images import ImageSize, require_images

LARGE = 1000  # images from which progress is shown
FEW = 0.01  # share of images of wrong sizes below which a run isn't refused: public data sets have one now and then


def check_images(part: dict, held: Held, unchecked: list[str], split: str, decode: bool) -> list[ImageSize | None]:
    """See that images can be read and have the sizes of the annotations.

    Args:
        part: The data set's config.
        held: What it holds.
        unchecked: Takes what could not be checked.
        split: The split, for messages.
        decode: Whether to decode every image.

    Returns:
        The size of each image as it is loaded; None where its path isn't known.

    Raises:
        InputError: They can't, or haven't.
    """
    infos = list(frames(held.kept))
    if not all(isinstance(info.get('img_path'), str) for info in infos):
        unchecked.append(f'the images of {held.kind}')
        return [None] * len(infos)
    paths = [Path(info['img_path']) for info in infos]
    found = require_images(paths, split, str(held.file), README_SECTION, decode, _progress(split))
    stored = _ignores_orientation(part)
    sizes = [ImageSize(*found[path].stored) if stored else found[path] for path in paths]
    wrong: list[tuple[Path, tuple, ImageSize]] = []
    empty: list[tuple[Path, tuple, ImageSize]] = []
    for info, path, size in zip(infos, paths, sizes):
        said = (info.get('width'), info.get('height'))
        if None in said or said == size[:2]:
            continue
        (empty if not all(said) else wrong).append((Path(info.get('xml_path') or path), said, size))
    if empty:
        tell('warning', split, f'{len(empty)} of {len(infos)} annotations say a size of 0, the first {empty[0][0]}')
    if wrong and len(wrong) < FEW * len(infos):
        tell('warning', split, _size_error(wrong, len(infos), held.file))
    elif wrong:
        raise InputError(f'{split} data: {_size_error(wrong, len(infos), held.file)}')
    hidden = [path for path, size in zip(paths, sizes) if size.orientation > 1 and not stored]
    if hidden and not any(size.turned and size.width != size.height for size in sizes):
        tell(
            'warning',
            split,
            f'{len(hidden)} images are turned or mirrored as they are loaded, by their EXIF orientation ({hidden[0]}); '
            f'whether the boxes are those of the turned image cannot be seen from the sizes',
        )
    return list(sizes)


def _ignores_orientation(part: dict) -> bool:
    """Tell whether a data set's pipeline loads images as they are stored."""
    for step in part.get('pipeline') or ():
        if type_name(step).endswith('LoadImageFromFile'):
            color, backend = step.get('color_type', 'color'), step.get('imdecode_backend')
            return 'ignore_orientation' in color or color == 'unchanged' or backend in ('turbojpeg', 'tifffile')
    return False


def _size_error(wrong: list[tuple[Path, tuple, ImageSize]], total: int, file: Path) -> str:
    path, (width, height), size = wrong[0]
    turned = [entry for entry in wrong if entry[2].turned and entry[1] == entry[2].stored]
    if len(turned) == len(wrong):
        return (
            f'{len(turned)} of the {total} images are turned by their EXIF orientation as they are loaded, and {file} '
            f'has the sizes of the stored images, with which the boxes go: {path} is loaded as {size.width} × '
            f'{size.height}, not {width} × {height}. Store the images turned, or load them as they are stored: '
            f"dict(type='LoadImageFromFile', color_type='color_ignore_orientation') in the pipelines of train, val and "
            f'test'
        )
    return (
        f'{len(wrong)} of the {total} images have another size than {file} says, by which boxes are cut off: {path} is '
        f'{size.width} × {size.height}, not {width} × {height}'
    )


def _progress(split: str) -> Callable[[Iterable, int], Iterable]:
    def shown(images: Iterable, total: int) -> Iterable:
        text = f'{split} data: looking at {total} images'
        return track(images, text, total, console=Console(stderr=True), disable=total < LARGE, transient=True)

    return shown
