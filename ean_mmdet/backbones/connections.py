"""Which blocks of a backbone have attention, and which of them share a module.

Huang, Liang, He, Liang and Lin, 'Efficient Attention Network: Accelerate Attention by Searching Where to Plug', arXiv
2011.14058: one attention module for all blocks of a stage, and a connection scheme, a 0 or 1 for each block.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from torch import nn

SHARED = (None, 'stage')


class Switch:
    """Whether a block's attention is used, and the module itself where the block only borrows it.

    A plain object, so that a borrowed module isn't among the block's own: its keys stand once, with the backbone.

    Attributes:
        module: The module that the stage's blocks share; None where there is none, or the block has its own.
        on: Whether the block's output goes through it.
    """

    def __init__(self, module: nn.Module | None = None, on: bool = True) -> None:
        self.module = module
        self.on = on


class _Within:
    """Forward pre-hook and hook of a backbone that tell its shared modules where a pass begins and ends."""

    def __init__(self, modules: list[Any], begins: bool) -> None:
        self.modules = modules
        self.begins = begins

    def __call__(self, backbone: nn.Module, *_: object) -> None:
        for module in self.modules:
            (module.begin if self.begins else module.end)()


def check_connections(
    owner: str, shared: str | None, connections: Sequence[int] | None, blocks: Sequence[str]
) -> list[bool]:
    """The scheme as one bool a block; all on where there is none.

    Args:
        owner: What to call the backbone in an error.
        shared: As given to it.
        connections: As given to it.
        blocks: Names of the blocks that can have attention, in the order of the scheme.

    Raises:
        ValueError: ``shared`` is unknown, or the scheme has another length, other values than 0 and 1, or no 1.
    """
    if shared not in SHARED:
        raise ValueError(f"{owner}: shared must be None or 'stage', got {shared!r}")
    if connections is None:
        return [True] * len(blocks)
    scheme = list(connections)
    if len(scheme) != len(blocks):
        raise ValueError(
            f'{owner}: connections must have a 0 or 1 for each of the {len(blocks)} blocks ({blocks[0]} to '
            f'{blocks[-1]}), got {len(scheme)}: {scheme}'
        )
    if not all(bit in (0, 1) for bit in scheme):
        raise ValueError(f'{owner}: connections must be 0 or 1 each, got {scheme}')
    if not any(scheme):
        raise ValueError(f'{owner}: connections are all 0; for a network without attention, take the plain backbone')
    return [bool(bit) for bit in scheme]


def share(
    backbone: nn.Module,
    blocks: Sequence[tuple[str, int]],
    scheme: Sequence[bool],
    build: Callable[[int], nn.Module],
) -> list[Switch]:
    """Build one module for all blocks of a stage that have the same number of channels, and add it to the backbone.

    It is called after its stage, ``layer1_attention``, and also after its channels where the stage has several.

    Args:
        backbone: Gets the modules.
        blocks: The stage and the channels of each block.
        scheme: Which blocks are on. A module that none of them uses isn't built.
        build: Builds the module, from its channels.

    Returns:
        The blocks' switches; one that is off has no module.
    """
    widths = Counter(stage for stage, _ in dict.fromkeys(blocks))
    modules: dict[tuple[str, int], nn.Module] = {}
    for (stage, channels), on in zip(blocks, scheme):
        if on and (stage, channels) not in modules:
            name = f'{stage.replace(".", "_")}_attention'.lstrip('_') + (f'_{channels}' if widths[stage] > 1 else '')
            modules[stage, channels] = build(channels)
            backbone.add_module(name, modules[stage, channels])
    stateful = [module for module in modules.values() if hasattr(module, 'begin')]
    if stateful:
        backbone.register_forward_pre_hook(_Within(stateful, begins=True))
        backbone.register_forward_hook(_Within(stateful, begins=False))
    return [Switch(modules[block] if on else None, on) for block, on in zip(blocks, scheme)]


def check_unshared(owner: str, shared: str | None, attention: type, with_cp: bool = False) -> None:
    """Check that a module that carries state from block to block can.

    Raises:
        ValueError: Each block would have a module of its own, or gradient checkpointing would run blocks out of order.
    """
    if not hasattr(attention, 'begin'):
        return
    if shared is None:
        raise ValueError(f"{owner}: {attention.__name__} is shared by a stage's blocks; set shared='stage'")
    if with_cp:
        raise ValueError(
            f'{owner}: {attention.__name__} carries state from block to block, which with_cp=True would run again; '
            f'set with_cp=False'
        )


def switches(model: nn.Module) -> tuple[Any, list[Switch]]:
    """The part of a model that has connections, and its switches in the order of the scheme.

    Raises:
        ValueError: No part has, or several have.
    """
    found: list[Any] = [module for module in model.modules() if getattr(module, 'attention_switches', None)]
    if len(found) != 1:
        raise ValueError(
            f'{len(found)} parts of {type(model).__name__} have attention that can be connected, and one must: '
            f'WithAttention, EANResNet, EANMobileNeXt, or MobileNeXt with attention'
        )
    return found[0], found[0].attention_switches


def set_connections(model: nn.Module, scheme: Sequence[int]) -> None:
    """Turn the attention of a model's blocks on and off.

    Args:
        model: A backbone, or a model with one, that was built with all blocks connected.
        scheme: A 0 or 1 a block.

    Raises:
        ValueError: The scheme has another length.
    """
    backbone, found = switches(model)
    if len(scheme) != len(found):
        raise ValueError(f'{type(backbone).__name__} has {len(found)} blocks with attention, the scheme {len(scheme)}')
    for switch, on in zip(found, scheme):
        switch.on = bool(on)
