"""Notes on the parameters that a checkpoint gave, and on its moment of training."""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor, nn


def note_loaded(model: nn.Module, keys: Iterable[str]) -> None:
    """Note that a checkpoint gave the parameters of these names; names of others are passed over."""
    own = dict(model.named_parameters(remove_duplicate=False))
    for key in keys:
        if key in own:
            own[key].from_checkpoint = True  # type: ignore[attr-defined]


def is_loaded(parameter: Tensor) -> bool:
    """Tell whether a checkpoint gave a parameter."""
    return getattr(parameter, 'from_checkpoint', False)


def moment(checkpoint: object) -> dict[str, int]:
    """The moment of training that a checkpoint is of: ``iteration`` and ``epoch``, those that it tells."""
    meta = checkpoint.get('meta') if isinstance(checkpoint, dict) else None
    told = dict(iteration=meta.get('iter'), epoch=meta.get('epoch')) if isinstance(meta, dict) else {}
    return {key: value for key, value in told.items() if isinstance(value, int)}
