"""Files of a warm start: a plain network's checkpoint converted to one of the network with attention."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config, ConfigDict
from mmengine.registry import MODELS, init_default_scope
from mmengine.runner.checkpoint import CheckpointLoader

from ..errors import InputError
from ..files import write_atomically
from .initializers import WarmStart
from .layouts import BACKBONE
from .plain import to_plain
from .reading import weights_in
from .warm_start import Report, load_weights


def convert_checkpoint(
    source: str,
    target: str,
    config: Config,
    prefix: str | None = None,
    force: bool = False,
    dry_run: bool = False,
) -> Report:
    """Write the checkpoint of a plain network as one of the network with attention that a config has.

    The file is what :class:`WarmStart` would make of the network, for ``init_cfg=dict(type='Pretrained')`` or
    ``load_from``; its keys keep the source's prefix. It appears whole or not at all.

    Args:
        source: The plain checkpoint: path, ``https://…``, ``torchvision://NAME`` or ``open-mmlab://NAME``. Of a
            backbone, or of a whole detector or classifier.
        target: Path of the file to write.
        config: A whole config, whose ``model`` has attention.
        prefix: Take only the source's keys that start with it, without it. Defaults to None, all.
        force: Whether to replace ``target`` where it exists. Defaults to False.
        dry_run: Whether to write nothing. Defaults to False.

    Raises:
        InputError: ``target`` exists, and ``force`` isn't set; the source doesn't load, is of another network, or
            already has attention; or the model has none.
    """
    path = Path(target)
    if path.is_dir():
        raise InputError(f'{target} is a folder; give the path of the file to write')
    if path.exists() and not force and not dry_run:
        raise InputError(f'{target} exists; give --force to replace it, or another path')
    if 'model' not in config:
        raise InputError('the config has no model')
    content = CheckpointLoader.load_checkpoint(source, map_location='cpu', logger='current')
    weights = weights_in(content, source, prefix)

    init_default_scope(config.get('default_scope') or 'mmdet')
    model = MODELS.build(without_checkpoints(config.model))
    model.init_weights()
    report = load_weights(model, weights, source, strict=True)
    if report.loaded_gates:
        raise InputError(
            f'{source} already has attention weights ({len(report.loaded_gates)} modules): it is converted, or was '
            f'trained with attention, and loads as it is'
        )
    if not report.gates:
        raise InputError(
            f"the config's {type(model).__name__} has no attention that {source} lacks, so there is nothing to convert"
        )
    if not dry_run:
        strip = len(BACKBONE) if report.match.own_prefix and not report.match.source_prefix else 0
        state = model.state_dict()
        keys = [key for key in state if key in report.match.tensors or key in report.gates]
        meta = {'warm_start': dict(source=source, scaled=report.scaled)}
        if isinstance(content, dict) and isinstance(content.get('meta'), dict) and 'dataset_meta' in content['meta']:
            meta['dataset_meta'] = to_plain(content['meta']['dataset_meta'])
        save_atomically(dict(meta=meta, state_dict={key[strip:]: state[key].cpu().clone() for key in keys}), path)
    return report


def save_atomically(checkpoint: dict, path: Path) -> None:
    """Write a checkpoint so that it appears under its name whole or not at all.

    Raises:
        InputError: The folder can't be written to, or is full.
    """

    def write(partial: Path) -> None:
        with open(partial, 'wb') as file:  # not by name: then torch.save raises what is no OSError on a full disk
            torch.save(checkpoint, file)

    write_atomically(path, write)


def without_checkpoints(config: Any) -> Any:
    """A model's config without the initializers that load checkpoints: what they load would be replaced anyway."""
    if isinstance(config, dict):
        kept = {key: value for key, value in config.items() if not _is_loading(key, value)}
        return ConfigDict({key: without_checkpoints(value) for key, value in kept.items()})
    if isinstance(config, (list, tuple)):
        return type(config)(without_checkpoints(value) for value in config if not _is_loading('init_cfg', value))
    return config


def _is_loading(key: str, value: Any) -> bool:
    if key != 'init_cfg' or not isinstance(value, dict):
        return key == 'pretrained'
    return value.get('type') in ('Pretrained', 'WarmStart', WarmStart)
