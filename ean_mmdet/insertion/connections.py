"""Connection schemes: the positions that have attention, and those that share a module.

Huang, Liang, He, Liang and Lin, 'Efficient Attention Network: Accelerate Attention by Searching Where to Plug', arXiv
2011.14058: one attention module for all blocks of a stage, and a connection scheme, a 0 or 1 for each block.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from .positions import Position, positions

SHARED = (None, 'stage')


def check_connections(
    caller: str, shared: str | None, connections: Sequence[int] | None, places: Sequence[Position]
) -> list[bool]:
    """The scheme as one bool a position; all on where there is none.

    Raises:
        ValueError: ``shared`` is unknown, or the scheme has another length, other values than 0 and 1, or no 1.
    """
    if shared not in SHARED:
        raise ValueError(f"{caller}: shared must be None or 'stage', got {shared!r}")
    if connections is None:
        return [True] * len(places)
    scheme = list(connections)
    if len(scheme) != len(places):
        raise ValueError(
            f'{caller}: connections must have a 0 or 1 for each of the {len(places)} positions ({places[0].norm} to '
            f'{places[-1].norm}), got {len(scheme)}: {scheme}'
        )
    if not all(bit in (0, 1) for bit in scheme):
        raise ValueError(f'{caller}: connections must be 0 or 1 each, got {scheme}')
    if not any(scheme):
        raise ValueError(f'{caller}: connections are all 0; for a network without attention, take the plain one')
    return [bool(bit) for bit in scheme]


def check_state(caller: str, shared: str | None, attention: object) -> None:
    """See that a module that carries state from block to block is shared.

    Raises:
        ValueError: Each position would have a module of its own.
    """
    if hasattr(attention, 'begin') and shared is None:
        name = getattr(attention, '__name__', type(attention).__name__)
        raise ValueError(f"{caller}: {name} is shared by a stage's blocks; set shared='stage'")


def mark_ends(places: Sequence[Position]) -> None:
    """Have modules that carry state from block to block told where their stage begins and ends."""
    ends: dict[nn.Module, list] = {}
    for place in places:
        place.switch.first = place.switch.last = False
        if place.switch.on and hasattr(place.switch.module, 'begin'):
            ends.setdefault(place.switch.module, []).append(place.switch)
    for switches in ends.values():
        switches[0].first = switches[-1].last = True


def set_connections(model: nn.Module, scheme: Sequence[int]) -> None:
    """Turn the attention of a model's positions on and off.

    Args:
        model: A model with attention that was attached with all positions connected, or one that has such a part.
        scheme: A 0 or 1 a position, in the order of :func:`.positions`.

    Raises:
        ValueError: The scheme has another length.
    """
    found = positions(model)
    if len(scheme) != len(found):
        raise ValueError(
            f'{type(model).__name__} has {len(found)} positions with attention, the scheme {len(scheme)} numbers'
        )
    for position, on in zip(found, scheme):
        position.switch.on = bool(on)
    mark_ends(found)
