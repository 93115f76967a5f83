"""Reading the weights of a checkpoint, whoever wrote it."""

from __future__ import annotations

import re
from collections.abc import Iterable

from torch import Tensor

from ..errors import InputError

_WRAPPERS = re.compile(r'^(module\.|_orig_mod\.)+')  # DataParallel's and torch.compile's


def weights_in(content: object, source: str, prefix: str | None = None) -> dict[str, Tensor]:
    """The weights of a loaded checkpoint: its ``state_dict``, its ``model``, or itself, without a wrapper's prefix.

    Args:
        content: What the file held.
        source: Where it came from, for the message.
        prefix: Take only the keys that start with it, without it. Defaults to None, all.

    Raises:
        InputError: It isn't a dict of weights by name, or has none under ``prefix``.
    """
    if not isinstance(content, dict):
        raise InputError(
            f'{source} holds a {type(content).__name__}, not weights by name. A checkpoint is a dict with a '
            f"'state_dict', or such a dict itself"
        )
    weights, where = content, ''
    for part in ('state_dict', 'model'):
        if part in weights and not isinstance(weights[part], Tensor):
            weights, where = weights[part], f'its {part!r} '
            break
    if not isinstance(weights, dict) or not weights or not all(isinstance(key, str) for key in weights):
        what = 'is empty' if isinstance(weights, dict) and not weights else f'is a {type(weights).__name__}'
        if isinstance(weights, dict) and weights:
            what = f'has keys such as {next(key for key in weights if not isinstance(key, str))!r}'
        raise InputError(f'{source}: {where or "it "}{what}; it must be a dict of weights by name')
    tensors = {_WRAPPERS.sub('', key): value for key, value in weights.items() if isinstance(value, Tensor)}
    if not tensors:
        raise InputError(f'{source} holds no weights: neither it nor its state_dict is a dict of tensors')
    if not prefix:
        return tensors
    prefix = prefix if prefix.endswith('.') else f'{prefix}.'
    found = inside(tensors, prefix)
    if not found:
        tops = dict.fromkeys(f'{key.split(".", 1)[0]}.' for key in tensors if '.' in key)
        raise InputError(f'{source} has no key that starts with {prefix!r}; its keys start with {", ".join(tops)}')
    return found


def inside(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors whose keys begin with a prefix, without it."""
    return {key[len(prefix) :]: value for key, value in tensors.items() if key.startswith(prefix)}


def sample(keys: Iterable[str], most: int = 3) -> str:
    """The first few keys, and how many more there are."""
    keys = list(keys)
    return ', '.join(keys[:most]) + (f' and {len(keys) - most} more' if len(keys) > most else '') or 'nothing'
