"""Loaders for every scheme that mmengine knows, all of them in PyTorch's safe mode."""

from __future__ import annotations

import io
import os
from typing import Any

import torch
from mmengine.dist import barrier, get_rank
from mmengine.fileio import get_file_backend
from mmengine.logging import print_log
from mmengine.runner.checkpoint import (
    CheckpointLoader,
    _get_mmengine_home,
    _process_mmcls_checkpoint,
    get_deprecated_model_names,
    get_external_models,
    get_mmcls_models,
    get_torchvision_models,
)

from ..errors import InputError, near_names
from .safe_load import MapLocation, explained, load_local, restore_history, safe_loading


def load_http(
    filename: str, map_location: MapLocation = None, model_dir: str | None = None, progress: bool = True
) -> Any:
    """Download a checkpoint, once a run, and load it in PyTorch's safe mode.

    Args:
        filename: The URL.
        map_location: As in :func:`torch.load`.
        model_dir: Folder to keep the file in. Defaults to None: that of :func:`torch.hub.load_state_dict_from_url`.
        progress: Whether to show the download's progress. Defaults to True.

    Raises:
        InputError: It cannot be downloaded, or what :func:`load_local` refuses.
    """

    def load() -> Any:
        with explained(filename), safe_loading():
            checkpoint = torch.hub.load_state_dict_from_url(
                filename, model_dir=model_dir, map_location=map_location, progress=progress, weights_only=True
            )
        return restore_history(checkpoint)

    if get_rank() == 0:
        checkpoint = load()
    barrier()
    return checkpoint if get_rank() == 0 else load()


def _load_named(filename: str, map_location: MapLocation, urls: dict[str, str], source: str) -> Any:
    name = filename.split('://', 1)[1]
    if name not in urls:
        near = near_names(name, urls) or sorted(urls)[:5]
        raise InputError(f'{source} has no checkpoint named {name!r}; near names: {", ".join(near)}')
    return load_http(urls[name], map_location)


def load_torchvision(filename: str, map_location: MapLocation = None) -> Any:
    """Load ``torchvision://NAME`` in PyTorch's safe mode."""
    return _load_named(filename, map_location, get_torchvision_models(), 'torchvision')


def load_openmmlab(filename: str, map_location: MapLocation = None) -> Any:
    """Load ``open-mmlab://NAME`` in PyTorch's safe mode.

    Names are those of mmengine's list, deprecated ones, and those of the user's ``open_mmlab.json``, which may be paths
    below mmengine's home folder.
    """
    name = filename.split('://', 1)[1]
    current = get_deprecated_model_names().get(name, name)
    if current != name:
        print_log(f'{filename} is deprecated in favor of open-mmlab://{current}', logger='current', level=30)
    urls = get_external_models()
    if current in urls and not urls[current].startswith(('http://', 'https://')):
        return load_local(os.path.join(_get_mmengine_home(), urls[current]), map_location)
    return _load_named(f'open-mmlab://{current}', map_location, urls, 'open-mmlab')


def load_mmcls(filename: str, map_location: MapLocation = None) -> Any:
    """Load ``mmcls://NAME``, the backbone of a classifier, in PyTorch's safe mode."""
    return _process_mmcls_checkpoint(_load_named(filename, map_location, get_mmcls_models(), 'mmcls'))


def load_stored(filename: str, map_location: MapLocation = None) -> Any:
    """Load ``s3://…`` and ``petrel://…`` in PyTorch's safe mode, by mmengine's file backend."""
    content = get_file_backend(filename, backend_args=dict(backend='petrel')).get(filename)
    with explained(filename), safe_loading():
        return restore_history(torch.load(io.BytesIO(content), map_location=map_location, weights_only=True))


def refuse_pavi(filename: str, map_location: MapLocation = None) -> Any:
    """Refuse ``pavi://…``, whose client loads a checkpoint itself, and not safely.

    Raises:
        InputError: Always.
    """
    raise InputError(f'{filename}: pavi:// is not loaded, as its client cannot be told to load safely; give a path')


def register_loaders() -> None:
    """Have mmengine, and so every OpenMMLab library, load each scheme's checkpoints in PyTorch's safe mode."""
    for prefixes, loader in (
        ('', load_local),
        (('http://', 'https://'), load_http),
        (('torchvision://', 'modelzoo://'), load_torchvision),
        (('open-mmlab://', 'openmmlab://'), load_openmmlab),
        ('mmcls://', load_mmcls),
        ((r'(\S+\:)?s3://', r'(\S+\:)?petrel://'), load_stored),
        ('pavi://', refuse_pavi),
    ):
        CheckpointLoader.register_scheme(prefixes, loader, force=True)
