"""Which parameters of a model a checkpoint gave, noted on the parameters themselves."""

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
    """Whether a checkpoint gave a parameter."""
    return getattr(parameter, 'from_checkpoint', False)
