"""Findings and choices on one screen, and a dozen of the images with their boxes in one picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from mmdet.structures import DetDataSample
from mmdet.visualization import DetLocalVisualizer
from mmengine.structures import InstanceData

from ..errors import InputError
from ..files import write_atomically
from ..palette import COLOURS
from ..table import Table
from .choices import SMALL, Choices
from .contents import Contents
from .found import Found
from .parts import Part

MEDIUM = 96  # pixels at which COCO's large objects begin
SHOWN = 12  # classes, and images
COLUMNS, CELL = 4, 320


def summary(found: Found, parts: dict[str, Part], contents: dict[str, Contents]) -> list[Table]:
    """Tables of the splits and the classes, and what was left out.

    Args:
        found: The data.
        parts: Its splits by their roles.
        contents: What MMDetection reads of them.
    """
    rows = []
    for role, part in parts.items():
        held = contents[role]
        empty = held.images - len(np.unique(held.owners))
        left = len(part.names()) - held.images
        rows.append((role, part.name, len(part.names()), left, empty, len(held.boxes), _sizes(held)))
    head = ('for', 'split', 'images', 'left out', 'without boxes', 'boxes', 'image size')
    splits = Table.of(f'{found.folder}: {found.format.upper()}', head, rows, [f'note: {line}' for line in found.notes])
    return [splits, _class_table(found, contents)]


def _sizes(contents: Contents) -> str:
    if not contents.images:
        return '–'
    low, high = contents.sizes.min(0).astype(int), contents.sizes.max(0).astype(int)
    least, most = f'{low[0]} × {low[1]}', f'{high[0]} × {high[1]}'
    return least if least == most else f'{least} to {most}'


def _class_table(found: Found, contents: dict[str, Contents]) -> Table:
    train = contents['train']
    number = len(found.classes)
    sides = np.sqrt(train.boxes.prod(1))
    counts = np.bincount(train.labels, minlength=number)
    pairs = np.unique(np.stack([train.owners, train.labels]), axis=1)
    images = np.bincount(pairs[1], minlength=number)
    others = np.bincount(contents['val'].labels, minlength=number)
    order: Sequence[int] = range(number)
    notes = []
    if number > SHOWN:
        by_count = np.argsort(-counts, kind='stable')
        order = [*by_count[: SHOWN // 2].tolist(), *by_count[-SHOWN // 2 :].tolist()]
        notes.append(f'the {SHOWN // 2} most and the {SHOWN // 2} least frequent of {number} classes')
    rows = []
    for label in order:
        own = sides[train.labels == label]
        median = f'{np.median(own):.0f}' if len(own) else '–'
        by_size = [
            int(((own >= low) & (own < high)).sum()) for low, high in ((0, SMALL), (SMALL, MEDIUM), (MEDIUM, 1e9))
        ]
        rows.append(
            (found.classes[label], int(counts[label]), int(images[label]), *by_size, median, int(others[label]))
        )
    there = counts[counts > 0]
    if number > 1:
        notes.append(
            f'imbalance: the most frequent class has {there.max() / there.min():.1f} times the boxes of the rarest'
        )
    head = ('class', 'boxes', 'images', f'< {SMALL} px', f'to {MEDIUM}', 'larger', 'median', 'to validate on')
    return Table.of(f'Boxes to train on; classes in the order of {found.order}', head, rows, notes)


def choices_table(choices: Choices, others: dict[str, str]) -> Table:
    """Table of what was chosen, and why.

    Args:
        choices: The numbers.
        others: Further lines: what it starts from, the batch, the time.
    """
    size = ' × '.join(map(str, choices.input_size))
    values = {
        'input': size, 'anchors': _anchors(choices), 'schedule': f'{choices.iterations} iterations',
        'learning rate': f'{choices.rate:g}',
    }  # fmt: skip
    if choices.detector == 'yolox':
        values['schedule'] = f'{choices.epochs} epochs'
    rows = [(name, values.get(name, ''), reason) for name, reason in choices.reasons.items()]
    rows += [(name, '', text) for name, text in others.items()]
    return Table.of('The config', ('', '', 'why'), rows, [f'warning: {line}' for line in choices.warnings])


def _anchors(choices: Choices) -> str:
    if choices.anchors is None:
        return '–'
    settings = choices.anchors.settings
    sizes, ratios = settings.get('min_sizes') or settings.get('base_sizes'), settings.get('ratios')
    texts = [', '.join(map(str, sizes))] if sizes else []
    texts += [f'ratios {", ".join(map(str, ratios))}'] if ratios else []
    return '; '.join(texts) or "the base's"


def draw_examples(contents: Contents, classes: Sequence[str], path: Path) -> None:
    """Draw a dozen images with their boxes as MMDetection reads them, rare classes first.

    Raises:
        InputError: An image can't be read, or the picture can't be written.
    """
    infos = contents.held.kept
    cells = [_cell(infos[number], classes) for number in _examples(contents)]
    cells += [np.full_like(cells[0], 255)] * (-len(cells) % COLUMNS if len(cells) > COLUMNS else 0)
    columns = min(COLUMNS, len(cells))
    rows = [np.concatenate(cells[begin : begin + columns], 1) for begin in range(0, len(cells), columns)]
    _, data = cv2.imencode('.jpg', np.concatenate(rows), [cv2.IMWRITE_JPEG_QUALITY, 88])
    write_atomically(path, lambda partial: partial.write_bytes(data.tobytes()))


def _examples(contents: Contents) -> list[int]:
    """Images that show the classes in turn, the rarest first, and then others."""
    counts = np.bincount(contents.labels)
    chosen: list[int] = []
    for label in sorted(set(contents.labels.tolist()), key=lambda label: counts[label]):
        owners = [owner for owner in np.unique(contents.owners[contents.labels == label]) if owner not in chosen]
        chosen += [int(owners[len(owners) // 2])] if owners and len(chosen) < SHOWN else []
    every = np.linspace(0, contents.images - 1, min(contents.images, 4 * SHOWN)).astype(int).tolist()
    return (chosen + [number for number in dict.fromkeys(every) if number not in chosen])[:SHOWN]


def _cell(info: dict, classes: Sequence[str]) -> np.ndarray:
    pixels = cv2.imread(info['img_path'])
    if pixels is None:
        raise InputError(f'{info["img_path"]} cannot be read as an image')
    scale = CELL / max(pixels.shape[:2])
    pixels = cv2.resize(
        pixels, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    )
    boxes = np.array([box['bbox'] for box in info['instances']], dtype=float).reshape(-1, 4) * scale
    inside = np.clip(boxes, 0, np.tile(pixels.shape[1::-1], 2))  # else the picture is made smaller
    labels = np.array([box['bbox_label'] for box in info['instances']], dtype=int)
    sample = DetDataSample(gt_instances=InstanceData(bboxes=torch.from_numpy(inside), labels=torch.from_numpy(labels)))
    visualizer = DetLocalVisualizer()
    palette = [tuple(bytes.fromhex(COLOURS[label % len(COLOURS)][1:])) for label in range(len(classes))]
    visualizer.dataset_meta = dict(classes=tuple(classes), palette=palette)
    visualizer.add_datasample('', pixels[..., ::-1].copy(), sample, draw_pred=False)
    pixels = visualizer.get_image()
    cell = np.full((CELL + 4, CELL + 4, 3), 255, dtype=np.uint8)
    top, left = ((CELL + 4 - side) // 2 for side in pixels.shape[:2])
    cell[top : top + pixels.shape[0], left : left + pixels.shape[1]] = pixels
    return cell[..., ::-1]
