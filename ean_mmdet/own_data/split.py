"""A split into training and validation images: by seed, each class on both sides, images that look alike on one."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

from ..errors import InputError
from .parts import Part

ALIKE = 10  # of the 64 bits of a perceptual hash that may differ
FRACTION = 0.2  # to validate on
FEW = 50  # images below which a split is next to nothing
BLOCK = 4096
# Roboflow's augmented copies of x.jpg are x_jpg.rf.HASH.jpg
COPIES = re.compile(r'\.rf\.[0-9a-f]+$')


def split_part(
    part: Part,
    classes: Sequence[str],
    fraction: float = FRACTION,
    seed: int = 0,
    progress: Callable[[Iterable, int], Iterable] | None = None,
) -> tuple[dict[str, Part], list[str]]:
    """Divide a part into ``'train'`` and ``'val'``; the same part, fraction and seed give the same.

    Args:
        part: What to divide.
        classes: The classes, each of which stays in the training images.
        fraction: How much to validate on, 0 to 1. Defaults to 0.2.
        seed: Of the order in which images are taken. Defaults to 0.
        progress: Passes on images one by one, of a number, and shows how far they are. Defaults to None.

    Returns:
        The parts, and what there is to say of them.

    Raises:
        InputError: There are too few images, or all look alike.
    """
    paths, labels = part.paths(), part.labels(classes)
    if not 0 < fraction < 1:
        raise InputError(f'--val-fraction must be between 0 and 1, got {fraction}')
    if len(paths) < 2:
        raise InputError(f'{part.name} has {len(paths)} image; to train and to validate takes two at least')
    groups = group_alike(paths, progress)
    sizes = np.bincount(groups)
    if len(sizes) < 2:
        raise InputError(
            f'all {len(paths)} images of {part.name} look alike, as in a burst or a video, so none of them could judge '
            f'what is learned from the others: give images of another scene to validate on, --splits train=… val=…'
        )
    chosen = _choose(groups, labels, len(classes), round(fraction * len(paths)) or 1, seed)
    if not chosen.any():  # every image has a class's only boxes
        chosen[groups == int(np.argmin(sizes))] = True
    notes = [
        f'no split in the data: {int((~chosen).sum())} images to train on and {int(chosen.sum())} to validate on, by '
        f'seed {seed}'
    ]
    alike = sizes[sizes > 1]
    if len(alike):
        notes.append(
            f'{int(alike.sum())} images look alike in {len(alike)} groups, the largest of {int(alike.max())}, each '
            f'kept on one side'
        )
    if len(paths) < FEW:
        notes.append(
            f'{len(paths)} images are few: a metric on {int(chosen.sum())} of them jumps from run to run; more images '
            f'help before anything else does'
        )
    counts = {side: Counter(label for number in np.flatnonzero(chosen == side) for label in labels[number])
              for side in (False, True)}  # fmt: skip
    unseen = [classes[label] for label in range(len(classes)) if counts[False][label] and not counts[True][label]]
    if unseen:
        names = ', '.join(unseen[:6]) + (f' and {len(unseen) - 6} more' if len(unseen) > 6 else '')
        notes.append(f'{len(unseen)} classes have no image to validate on, so their AP is not measured: {names}')
    return {
        'train': part.subset('train', np.flatnonzero(~chosen).tolist()),
        'val': part.subset('val', np.flatnonzero(chosen).tolist()),
    }, notes


def _choose(groups: np.ndarray, labels: list[set[int]], classes: int, wanted: int, seed: int) -> np.ndarray:
    """Choose the images to validate on: groups in a random order, none that would leave training without a class."""
    left = np.zeros(classes, dtype=int)
    for found in labels:
        left[list(found)] += 1
    chosen = np.zeros(len(labels), dtype=bool)
    members: dict[int, list[int]] = {}
    for number, group in enumerate(groups.tolist()):
        members.setdefault(group, []).append(number)
    for group in np.random.default_rng(seed).permutation(len(members)).tolist():
        taken = np.zeros(classes, dtype=int)
        for number in members[group]:
            taken[list(labels[number])] += 1
        # half as much again as wanted is too much: a large group stays where it learns
        fits = chosen.sum() + len(members[group]) <= max(1.5 * wanted, 1)
        if fits and not ((taken > 0) & (left - taken <= 0)).any():
            chosen[members[group]] = True
            left -= taken
        if chosen.sum() >= wanted:
            break
    return chosen


def group_alike(paths: Sequence[Path], progress: Callable[[Iterable, int], Iterable] | None = None) -> np.ndarray:
    """The group of each image: images whose perceptual hashes are near, and augmented copies by their names, share one.

    Args:
        paths: The images.
        progress: See :func:`split_part`.

    Returns:
        A number from 0 on for each image, in the order of first appearance.

    Raises:
        InputError: An image can't be read, or the library of hashes is missing.
    """
    try:
        import imagehash
        from scipy.sparse import coo_matrix
        from scipy.sparse.csgraph import connected_components
    except ImportError as error:
        raise InputError(
            f'images that look alike are found by imagehash and scipy: pip install imagehash scipy ({error})'
        ) from None

    def signs(path: Path) -> np.ndarray:
        try:
            with Image.open(path) as image:
                image.draft('L', (64, 64))  # a JPEG is decoded at an eighth of its size
                return imagehash.phash(image).hash.ravel().astype(np.float32) * 2 - 1
        except (OSError, SyntaxError, ValueError) as error:
            raise InputError(f'{path} cannot be read: {error}') from error

    with ThreadPoolExecutor() as pool:
        done = pool.map(signs, paths)
        hashes = np.stack(list(progress(done, len(paths)) if progress else done))
    links: list[tuple[np.ndarray, np.ndarray]] = []
    for begin in range(0, len(paths), BLOCK):
        for other in range(begin, len(paths), BLOCK):
            # bits that agree less bits that differ
            near = hashes[begin : begin + BLOCK] @ hashes[other : other + BLOCK].T >= 64 - 2 * ALIKE
            rows, columns = np.nonzero(near)
            links.append((rows + begin, columns + other))
    stems: dict[str, int] = {}
    copies = [(number, stems.setdefault(COPIES.sub('', path.stem), number)) for number, path in enumerate(paths)]
    copies = [pair for pair in copies if COPIES.search(paths[pair[0]].stem)]
    rows = np.concatenate([*(pair[0] for pair in links), np.array([a for a, _ in copies], dtype=int)])
    columns = np.concatenate([*(pair[1] for pair in links), np.array([b for _, b in copies], dtype=int)])
    graph = coo_matrix((np.ones(len(rows), dtype=bool), (rows, columns)), shape=(len(paths), len(paths)))
    _, groups = connected_components(graph, directed=False)
    _, first = np.unique(groups, return_index=True)
    return np.argsort(np.argsort(first))[groups]
