"""Check of the masks and segmentation maps that a pipeline loads, and of what MMDetection makes of them."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from mmcv.transforms import LoadAnnotations as LoadsAnything
from mmdet.datasets.transforms import LoadAnnotations
from mmengine.config import Config
from mmengine.registry import TRANSFORMS

from ..errors import InputError
from .config_parts import type_class
from .held import README_SECTION, Held, frames, tell
from .images import ImageSize, require_images

AWAY = 0.5  # share of masks outside their boxes from which all are taken to be in another format


def check_masks(
    config: Config, part: dict, held: Held, sizes: list[ImageSize | None], unchecked: list[str], split: str
) -> None:
    """See that the masks and segmentation maps that a data set's pipeline loads are there and can be used.

    Args:
        config: The whole config.
        part: The data set's config.
        held: What it holds.
        sizes: The size of each of its images, None where it isn't known.
        unchecked: Takes what could not be checked.
        split: The split, for messages.

    Raises:
        InputError: They aren't, or can't.
    """
    loads: dict[str, list[dict]] = dict(with_mask=[], with_seg=[])
    for step, kind in _loaders(config, part.get('pipeline')):
        for option, steps in loads.items():
            if _option(kind, step, option):
                steps.append(step)
    infos = list(frames(held.kept))
    from_maps = any('segments_info' in info for info in infos[:1])  # panoptic data, whose masks are cut out of them
    if loads['with_mask'] and not from_maps:
        _check_instances(infos, held, unchecked, split, all(step.get('poly2mask', True) for step in loads['with_mask']))
    if loads['with_seg'] or (loads['with_mask'] and from_maps):
        _check_maps(infos, held, sizes, unchecked, split)


def _loaders(config: Config, steps: object) -> Iterator[tuple[dict, type]]:
    """The steps of a pipeline that load annotations, those inside others too, and their types."""
    if isinstance(steps, dict):
        kind = type_class(config, steps, TRANSFORMS) if 'type' in steps else None
        if isinstance(kind, type) and issubclass(kind, LoadsAnything):
            yield steps, kind
        steps = list(steps.values())
    for step in steps if isinstance(steps, (list, tuple)) else ():
        yield from _loaders(config, step)


def _option(kind: type, step: dict, name: str) -> bool:
    """Return a step's argument, or its type's default."""
    parameters = [inspect.signature(base).parameters.get(name) for base in kind.__mro__ if base is not object]
    return bool(step.get(name, next((parameter.default for parameter in parameters if parameter), False)))


def _check_instances(infos: list[dict], held: Held, unchecked: list[str], split: str, as_bitmaps: bool) -> None:
    instances = [(info, instance) for info in infos for instance in info.get('instances', ())]
    lacking = [info for info, instance in instances if 'mask' not in instance]
    if lacking:
        raise InputError(
            f'{split} data: {len(lacking)} of the {len(instances)} boxes of {held.file} have no mask (segmentation), '
            f'the first in {lacking[0].get("img_path")}, and the pipeline loads masks (with_mask=True): MMDetection '
            f'stops there'
        )
    # what MMDetection makes of them decides
    rule = LoadAnnotations(with_mask=True, poly2mask=as_bitmaps)
    ignored, away, compared, encoded = [], [], 0, 0
    for info, instance in instances:
        copied = dict(instance)
        copied.setdefault('ignore_flag', 0)
        (mask,) = rule._process_masks(dict(instances=[copied]))
        if copied['ignore_flag']:
            ignored += [] if instance.get('ignore_flag') else [info]
        elif not isinstance(mask, list):
            encoded += 1
        elif len(instance.get('bbox', ())) == 4:
            compared += 1
            away += [info] if _outside(mask, instance['bbox']) else []
    if ignored and split == 'train':
        total = sum(not instance.get('ignore_flag') for _, instance in instances)
        text = (
            f'{len(ignored)} of the {total} masks of {held.file} are no polygons of three points or more, the first in '
            f'{ignored[0].get("img_path")}'
        )
        if len(ignored) == total:
            raise InputError(f'{split} data: {text}: MMDetection ignores their boxes, so there is nothing to train on')
        tell('warning', split, f'{text}; MMDetection ignores their boxes')
    if away:
        text = (
            f'{len(away)} of the {compared} masks of {held.file} lie outside their box, the first in '
            f'{away[0].get("img_path")}'
        )
        if len(away) > AWAY * compared:
            raise InputError(f"{split} data: {text}; COCO's polygons are x1, y1, x2, y2, … in pixels of the image")
        tell('warning', split, text)
    if encoded:
        unchecked.append(f'{encoded} masks of {held.kind} that are run lengths, not polygons')


def _outside(mask: list[np.ndarray], box: list[float]) -> bool:
    """Tell whether nothing of a mask's extent is in its box."""
    points = mask[0] if len(mask) == 1 else np.concatenate(mask)
    x, y = points[::2], points[1::2]
    return bool(x.max() < box[0] or y.max() < box[1] or x.min() > box[2] or y.min() > box[3])


def _check_maps(infos: list[dict], held: Held, sizes: list[ImageSize | None], unchecked: list[str], split: str) -> None:
    named: list[tuple[Path, Any]] = [
        (Path(info['seg_map_path']), size) for info, size in zip(infos, sizes) if info.get('seg_map_path')
    ]
    if not named:
        return
    what = f'{held.file or held.kind} (as segmentation maps)'
    found = require_images([path for path, _ in named], split, what, README_SECTION)
    wrong = [(path, size) for path, size in named if size is not None and found[path][:2] != size[:2]]
    if wrong:
        path, size = wrong[0]
        raise InputError(
            f'{split} data: {len(wrong)} of the {len(named)} segmentation maps have another size than their image: '
            f'{path} is {found[path].width} × {found[path].height}, its image {size.width} × {size.height}'
        )
    unchecked.append(f'what the segmentation maps of {held.kind} show')
