"""Check that an evaluator compares predictions with the data set that they are of."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path
from typing import Any

from mmdet.datasets.api_wrappers import COCO
from mmengine.config import Config
from mmengine.registry import METRICS, DefaultScope

from ..errors import InputError
from .coco_check import explain_coco, label_names
from .config_parts import scope_of, type_class, type_name
from .held import README_SECTION, Held

FILES = 'ann_file'


def reads_a_file(config: Config, part: dict) -> bool:
    """Tell whether an evaluator has annotations of its own, which it reads from a file in COCO's format."""
    return bool(part.get(FILES)) and 'Coco' in _lineage(config, part)


def reads_crowds(config: Config, part: dict) -> bool:
    """Tell whether an evaluator needs ``iscrowd`` of each box, which pycocotools does and LVIS's doesn't."""
    return reads_a_file(config, part) and 'LVIS' not in _lineage(config, part) and not part.get('format_only')


def check_evaluators(config: Config, held: list[Held], evaluators: list[dict], split: str) -> list[str]:
    """See that each evaluator has the images, sizes and categories of its data set.

    Args:
        config: The whole config.
        held: What the split's data sets hold.
        evaluators: The split's evaluators.
        split: ``'val'`` or ``'test'``.

    Returns:
        What could not be checked.

    Raises:
        InputError: An evaluator's file is missing or damaged, or of other data.
    """
    unchecked = []
    for part in evaluators:
        if type_name(part) == 'MultiDatasetsEvaluator':
            metrics = part.get('metrics') or []
            pairs = list(zip(metrics, held)) if len(metrics) == len(held) else []
            for metric, one in pairs:
                unchecked += check_evaluators(config, [one], [metric], split)
            unchecked += [] if pairs else ['MultiDatasetsEvaluator']
            continue
        file = part.get(FILES)
        if not file:
            continue
        if '://' in str(file):
            unchecked.append(f'{type_name(part)}, whose annotations are not on a disk of this machine')
            continue
        if not Path(file).exists():
            raise InputError(
                f'{split}_evaluator: {type_name(part)} has no annotation file {file}; its data set has '
                f'{held[0].file}; {README_SECTION}'
            )
        if not reads_a_file(config, part):
            unchecked.append(f"{type_name(part)}'s annotations against those of the data set")
            continue
        _compare(config, held, part, split)
    return unchecked


def _lineage(config: Config, part: dict) -> str:
    kind = type_class(config, part, METRICS)
    return ' '.join(base.__name__ for base in kind.__mro__) if isinstance(kind, type) else ''


def _compare(config: Config, held: list[Held], part: dict, split: str) -> None:
    kind, file = type_name(part), Path(part[FILES])
    try:
        with DefaultScope.overwrite_default_scope(scope_of(config)), contextlib.redirect_stdout(io.StringIO()):
            metric: Any = METRICS.build(dict(part))
    except Exception as error:  # a metric of the user's can fail in any way
        explain_coco(file, split, reads_crowds(config, part))
        reason = f'{type(error).__name__}: {" ".join(str(error).split())}'
        raise InputError(f'{split}_evaluator: {kind} cannot be built: {reason}') from error
    api = getattr(metric, '_coco_api', None) or getattr(metric, '_lvis_api', None)
    if api is None:
        return
    if 'segm' in getattr(metric, 'metrics', ()):
        without = [number for number, box in api.anns.items() if not box.get('segmentation')]
        if without:
            raise InputError(
                f'{split}_evaluator: {kind} compares masks, and {len(without)} of the {len(api.anns)} annotations of '
                f"{file} have none (segmentation), the first is {without[0]}: set metric='bbox', or add them"
            )
    classes = held[0].classes or ()
    # by name with COCO's, which LVIS's doesn't have
    ids = api.get_cat_ids(cat_names=list(classes)) if isinstance(api, COCO) else api.get_cat_ids()
    label_names(api.dataset, {number: label for label, number in enumerate(ids)}, classes, file, split)
    own = getattr(held[0].dataset, 'cat_ids', None)
    infos = [info for one in held for info in one.kept if 'img_id' in info]
    theirs, ours = set(api.imgs), {info['img_id'] for info in infos}
    where = f'{split}_evaluator: {kind} has the annotation file {file}, and its data set {held[0].file}'
    if infos and theirs != ours:
        lacking, extra = ours - theirs, theirs - ours
        parts = [f'{len(lacking)} of the {len(ours)} images are not in the first'] if lacking else []
        # images without boxes may be left out
        parts += [f'{len(extra)} of its {len(theirs)} images are not in the second'] if extra else []
        raise InputError(f'{where}: {" and ".join(parts)}, so the metric would be another one. Give both one file')
    other = [
        info['img_id']
        for info in infos
        if None not in (info.get('width'), info.get('height'))
        and (api.imgs[info['img_id']].get('width'), api.imgs[info['img_id']].get('height'))
        != (info['width'], info['height'])
    ]
    if other:
        raise InputError(f'{where}: image {other[0]} and {len(other) - 1} others have another size there')
    if own is not None and list(own) != list(ids):
        raise InputError(
            f'{where}: a label is another category there, by the ids {list(ids)[:6]} and {list(own)[:6]}. Give both '
            f'one file'
        )
    if reads_crowds(config, part) and file.resolve() != held[0].file.resolve():
        explain_coco(file, split, True)
