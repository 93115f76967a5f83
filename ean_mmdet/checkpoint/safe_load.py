"""Checkpoints through PyTorch's safe loading (``weights_only=True``), behind mmengine's own loader.

mmengine keeps its training history in a checkpoint as pickled ``HistoryBuffer`` objects, which drag in NumPy arrays and
a ``getattr`` for each of their methods. PyTorch 2.6 and later refuse both, so what mmengine saves it cannot load.
Here the pickle's names are bound to harmless stand-ins for the length of one load: NumPy's array constructors to
themselves, ``HistoryBuffer`` to a class that keeps its numbers and nothing else, ``getattr`` to a function that looks
nothing up. Everything else is refused as PyTorch refuses it.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import zipfile
from collections.abc import Callable, Iterator
from typing import Any
from urllib.error import URLError

import numpy as np
import torch
from mmengine.logging import HistoryBuffer

from ..errors import InputError, near_names

try:
    from numpy._core import multiarray
except ImportError:  # NumPy 1
    from numpy.core import multiarray  # type: ignore[no-redef]

MapLocation = str | torch.device | Callable | None


class _PickledHistory:
    """Takes the place of a pickled ``HistoryBuffer``: its numbers, without its methods."""

    def __setstate__(self, state: dict) -> None:
        self.log_history = np.asarray(state['_log_history'], dtype=float)
        self.count_history = np.asarray(state['_count_history'], dtype=float)
        self.max_length = int(state['max_length'])


def _no_method(owner: Any, name: str) -> None:
    """Takes the place of ``getattr``, by which a pickled ``HistoryBuffer`` refers to its own methods."""
    if owner is not _PickledHistory:
        raise pickle.UnpicklingError(f'refused to look up {name!r} in {owner!r}: only a HistoryBuffer may')


def _safe_names() -> list[Any]:
    """The names a checkpoint of mmengine's may use beyond PyTorch's own, and what each is bound to."""
    names = [(_PickledHistory, 'mmengine.logging.history_buffer.HistoryBuffer'), (_no_method, 'builtins.getattr')]
    names += [(np.ndarray, 'numpy.ndarray'), (np.dtype, 'numpy.dtype')]
    for package in ('numpy.core', 'numpy._core'):
        names.append((multiarray._reconstruct, f'{package}.multiarray._reconstruct'))
        names.append((multiarray.scalar, f'{package}.multiarray.scalar'))
    for kind in (np.bool_, *np.sctypeDict.values()):
        dtype = type(np.dtype(kind))
        names.append((dtype, f'{dtype.__module__}.{dtype.__qualname__}'))
    return list(dict.fromkeys(names))


@contextlib.contextmanager
def safe_loading() -> Iterator[None]:
    """Let PyTorch's safe mode load what mmengine's checkpoints hold, inside a ``with``."""
    with torch.serialization.safe_globals(_safe_names()):
        yield


def history_to_plain(buffer: HistoryBuffer) -> dict:
    """A ``HistoryBuffer`` as tensors and numbers, which load anywhere."""
    log_history, count_history = (torch.from_numpy(np.asarray(values, dtype=float)) for values in buffer.data)
    return dict(log_history=log_history, count_history=count_history, max_length=buffer.max_length)


def restore_history(checkpoint: Any) -> Any:
    """Put ``HistoryBuffer`` objects back where a checkpoint has their numbers."""
    hub = checkpoint.get('message_hub') if isinstance(checkpoint, dict) else None
    scalars = hub.get('log_scalars') if isinstance(hub, dict) else None
    if not isinstance(scalars, dict):
        return checkpoint
    for key, value in scalars.items():
        if isinstance(value, _PickledHistory):
            value = vars(value)
        if isinstance(value, dict) and value.keys() == {'log_history', 'count_history', 'max_length'}:
            arrays = (np.asarray(value[name], dtype=float) for name in ('log_history', 'count_history'))
            scalars[key] = HistoryBuffer(*arrays, max_length=value['max_length'])
    return checkpoint


def load_local(filename: str, map_location: MapLocation = None) -> Any:
    """Load a checkpoint file in PyTorch's safe mode.

    Args:
        filename: Path of the file.
        map_location: As in :func:`torch.load`.

    Raises:
        InputError: There is no such file (names those like it in the folder), it is truncated or no checkpoint, or it
            would run code when loaded.
    """
    filename = os.path.expanduser(filename)
    if not os.path.isfile(filename):
        folder = os.path.dirname(filename) or '.'
        files = [name for name in os.listdir(folder) if name.endswith('.pth')] if os.path.isdir(folder) else []
        near = near_names(os.path.basename(filename), files) or sorted(files)[:5]
        hint = f'; {folder} has {", ".join(near)}' if near else ''
        raise InputError(f'no checkpoint at {filename}{hint}')
    with explained(filename), safe_loading():
        check_archive(filename)
        return restore_history(torch.load(filename, map_location=map_location, weights_only=True))


def check_archive(filename: str) -> None:
    """See that a checkpoint's zip archive is whole: every checksum in it, which PyTorch writes and doesn't read.

    Files of PyTorch before 1.6 are no archives and have no checksums.

    Raises:
        InputError: Bytes have changed since it was written, or it is compressed, which PyTorch's never are, and would
            unpack to more than ten times its size.
        zipfile.BadZipFile: The archive is cut.
    """
    with open(filename, 'rb') as file:
        if file.read(4) != b'PK\x03\x04':
            return
    with zipfile.ZipFile(filename) as archive:
        unpacked, size = sum(record.file_size for record in archive.infolist()), os.path.getsize(filename)
        if unpacked > 10 * size:
            raise InputError(
                f'{filename} is compressed and would unpack to {unpacked:,} bytes from {size:,}. PyTorch does not '
                f'compress checkpoints; unpack it elsewhere, if you trust it'
            )
        damaged = archive.testzip()
    if damaged is not None:
        raise InputError(
            f'{filename} is damaged: the checksum of its {damaged} is wrong, so bytes have changed since it was '
            f'written. Copy or download it again, or take another checkpoint'
        )


@contextlib.contextmanager
def explained(source: str) -> Iterator[None]:
    """Say in plain words why a checkpoint doesn't load."""
    try:
        yield
    except InputError:
        raise
    except pickle.UnpicklingError as error:
        raise InputError(
            f'{source} is damaged, no PyTorch checkpoint, or holds more than weights, which was refused, as loading it '
            f'could run any code. If you trust its author, convert it to plain weights there. What was refused: {error}'
        ) from error
    except URLError as error:
        raise InputError(
            f'{source} could not be downloaded: {error.reason}. Download it elsewhere and give its path, or put it '
            f'into {torch.hub.get_dir()}/checkpoints'
        ) from error
    except (EOFError, OSError, RuntimeError, ValueError, KeyError, zipfile.BadZipFile) as error:
        size = f' ({os.path.getsize(source):,} bytes)' if os.path.isfile(source) else ''
        raise InputError(
            f'{source}{size} is truncated or no PyTorch checkpoint. Copy or download it again. ({error})'
        ) from error
