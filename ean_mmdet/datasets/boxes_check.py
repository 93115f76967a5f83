"""Check of boxes to train on: labels of classes, and an extent inside their image."""

from __future__ import annotations

import numpy as np
from mmdet.datasets import XMLDataset
from mmengine.config import Config

from ..errors import InputError
from .config_parts import type_name
from .held import Held, frames, tell
from .images import ImageSize


def check_boxes(config: Config, held: Held, sizes: list[ImageSize | None], split: str) -> None:
    """See that labels are classes', and that boxes to train on have an extent inside their image.

    Args:
        config: The whole config.
        held: What a data set holds.
        sizes: The size of each of its images, None where it isn't known.
        split: The split, for messages.

    Raises:
        InputError: They aren't, or haven't, and no FilterAnnotations leaves them out.
    """
    boxes, labels, owners = [], [], []
    for number, info in enumerate(frames(held.kept)):
        for instance in info.get('instances', ()):
            if not instance.get('ignore_flag', 0) and len(instance.get('bbox', ())) == 4:
                boxes.append(instance['bbox'])
                labels.append(instance.get('bbox_label', 0))
                owners.append(number)
    classes = held.classes
    beyond = [label for label in set(labels) if classes and not (isinstance(label, int) and label < len(classes))]
    if beyond:
        raise InputError(
            f'{split} data: {held.kind} gives boxes the label {beyond[0]!r}, and there are {len(classes or ())} '
            f'classes, from 0 on: beyond them is background'
        )
    if split != 'train' or not boxes:
        return
    corners = np.array(boxes, dtype=float)
    infos = list(frames(held.kept))
    extent = np.array(
        [size[:2] if size else (info.get('width', 0), info.get('height', 0)) for size, info in zip(sizes, infos)]
    )
    limits = extent[owners]
    if not np.isfinite(corners).all():
        raise InputError(f'{split} data: {held.file} has boxes with NaN or infinity')
    inside = np.clip(corners, 0, np.concatenate([limits, limits], axis=1))
    flat = np.flatnonzero(((inside[:, 2:] - inside[:, :2]) <= 0).any(axis=1) & (limits > 0).all(axis=1))
    if not len(flat):
        return
    first = flat[0]
    info = infos[owners[first]]
    place = info.get('xml_path') or info.get('img_path')
    empty = ((corners[:, 2:] - corners[:, :2]) <= 0).any(axis=1)[flat]
    advice = (
        "Set the data set's filter_cfg=dict(bbox_min_size=1) to leave them out"
        if empty.all() and isinstance(held.dataset, XMLDataset)
        else 'Mend them or take them out'
    )
    text = (
        f'{len(flat)} boxes have no width or height inside their image, the first in {place}: '
        f'{[float(side) for side in corners[first]]} of {limits[first][0]} × {limits[first][1]} pixels'
    )
    if _filters_boxes(config.get('train_dataloader')):
        tell('warning', split, f"{text}; the pipeline's FilterAnnotations leaves them out")
        return
    raise InputError(f'{split} data: {text}; one of them makes the loss infinite. {advice}')


def _filters_boxes(part: object) -> bool:
    """Tell whether a pipeline somewhere in a part of a config leaves out boxes without an extent."""
    if isinstance(part, dict):
        return type_name(part) == 'FilterAnnotations' or any(map(_filters_boxes, part.values()))
    return isinstance(part, (list, tuple)) and any(map(_filters_boxes, part))
