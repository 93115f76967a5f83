"""Attention in any network: :func:`attach` and :func:`detach`."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..attention import MODULES
from .connections import check_connections, check_state, mark_ends
from .keep_function import change, constant_map, keep_function, response, scale, tolerance
from .norm_attention import Guard, NormAttention, Switch, find, put_behind, take_off
from .positions import CONTAINERS, Position, find_positions, positions

FEW_GROUPS = 8  # the paper's for lightweight networks; a module's default is for large ones


@dataclass
class Attached:
    """Result of :func:`attach`; printed, it is a table.

    Attributes:
        positions: The positions, in their order.
        kept: Whether the network computes what it did.
        change: The largest difference of the network's output to what it was, in shares of its largest value; None
            where the network takes no image, and only each norm and attention module alone were checked.
    """

    positions: list[Position]
    kept: bool
    change: float | None

    def __str__(self) -> str:
        rows = [('after', 'channels', 'attention', 'scale', '')]
        for place in self.positions:
            name = type(place.switch.module).__name__ if place.switch.module is not None else '–'
            rows.append((place.norm, str(place.channels), name, f'× {place.scale:g}', place.note))
        widths = [max(len(row[column]) for row in rows) for column in range(5)]
        lines = ['  '.join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows]
        if self.kept:
            checked = 'each norm alone' if self.change is None else f'its output changed by {self.change:.1e}'
            lines.append(f'The network computes what it did ({checked}).')
        return '\n'.join(lines)


def attach(
    model: nn.Module,
    attention: str | Callable[..., nn.Module] = 'EAN',
    at: str | Sequence[str] = 'auto',
    shared: str | None = None,
    connections: Sequence[int] | None = None,
    keep_function: bool = True,
    **options,
) -> Attached:
    r"""Add an attention module behind the norms of a network's blocks, in place.

    The network's own keys stay. The module that follows ``layer1.0.bn3`` is ``layer1.0.bn3_attention``; one that
    follows a member of an ``nn.Sequential`` belongs to the module around that, as ``features_3_attention``.

    With ``at='auto'`` the positions are the paper's (Li, Li and Wen, AAAI 2024, 'Integration Strategy'), found by the
    shapes of blocks as torchvision, timm, detectron2, Ultralytics and OpenMMLab have them:

    - VGG: after every convolution's norm (the convolution, if it has none), before the activation;
    - blocks with a residual addition (ResNet, ResNeXt, Res2Net, RegNet, Wide ResNet, CSP networks, YOLO): after the
      last norm, before the addition or the activation;
    - inverted residuals (MobileNetV2 and V3, EfficientNet): after the expanding convolution's norm, before its
      activation, in the blocks that expand;
    - MobileNeXt: after the last depthwise convolution's norm, before the addition;
    - blocks whose result is concatenated: after the last convolution of the branch, after its norm (ShuffleNetV2), or
      the convolution itself (DenseNet, whose norms come before).

    Args:
        model: The network, of PyTorch modules.
        attention: Name of a module in :mod:`ean_mmdet.attention`, or whatever builds one from its input's channels,
            ``attention(channels, **options)``. Defaults to ``'EAN'``.
        at: ``'auto'``; or a regular expression, or several, for whole names of the modules that attention follows, as
            ``model.named_modules()`` gives them: ``r'layer[34]\.\d+\.bn3'``. Norms, convolutions and other modules
            whose number of output channels is an attribute. Defaults to ``'auto'``.
        shared: ``'stage'``: one module for all positions of a stage that have the same channels; it is the first
            position's. None: each position has its own. Defaults to None.
        connections: A 0 or 1 for each position, in their order: whether it has attention. Defaults to None, all.
        keep_function: Whether the network computes what it did: where the module multiplies by a constant at its start
            (EAN by ½), the norm in front is scaled; where it does so with a last layer of zeros (SE, ECA, CA), that is
            zeroed. It is checked on a random image. Defaults to True.
        **options: The module's. ``groups`` is the paper's where it isn't given, or ``'auto'``: 64 where that divides
            the channels of all positions, else 8, or the nearest to it that divides.

    Returns:
        What was done, printable as a table.

    Raises:
        ValueError: No position is known for ``'auto'``; a pattern matches nothing, isn't a regular expression or
            matches a module of unknown channels; the attention module can't take a layer's channels; ``connections``
            has another length than there are positions, or no 1; or the function can't be kept. Then the model is as
            it was.

    Example:
        >>> model = torchvision.models.resnet50(weights='DEFAULT')
        >>> print(ean_mmdet.attach(model, 'EAN'))
    """
    build_type = named(attention)
    places = find_positions(model, at, 'attach')
    check_state('attach', shared, build_type)
    before = _Before(model, places) if keep_function else None
    places = insert(model, places, builder(build_type, options, places), shared, connections, 'attach')
    if before is None:
        return Attached(places, kept=False, change=None)
    try:
        difference = before.keep(model, places)
    except Exception:
        before.restore(model, places)
        raise
    return Attached(places, kept=True, change=difference)


class _Before:
    """Output of a model before, and the weights that are scaled."""

    def __init__(self, model: nn.Module, places: Sequence[Position]) -> None:
        self.response = response(model)
        modules = [model.get_submodule(place.norm) for place in places]
        values = [getattr(module, name, None) for module in modules for name in ('weight', 'bias')]
        self.values = [(value, value.detach().clone()) for value in values if isinstance(value, Tensor)]

    def keep(self, model: nn.Module, places: Sequence[Position]) -> float | None:
        """Keep the function; how much the network's output changed, None where it takes no image."""
        keep_function(model, places, 'attach')
        if self.response is None:
            return None
        difference = change(response(model) or [], self.response)
        if not difference <= tolerance(self.response):
            raise ValueError(
                f'attach: the output of {type(model).__name__} changed by {difference:.2g} of its size. Are weights of '
                f'the scaled norms used elsewhere too? Attach with keep_function=False, or `at` other modules'
            )
        return difference

    def restore(self, model: nn.Module, places: Sequence[Position]) -> None:
        remove(model, places)
        with torch.no_grad():
            for value, old in self.values:
                value.copy_(old)


def named(attention: str | Callable[..., nn.Module]) -> Callable[..., nn.Module]:
    """The class of an attention module.

    Raises:
        ValueError: There is none of that name.
    """
    if not isinstance(attention, str):
        return attention
    if attention not in MODULES:
        raise ValueError(f'attention must be one of {", ".join(MODULES)}, or a class or function, got {attention!r}')
    return MODULES[attention]


def builder(
    attention: Callable[..., nn.Module], options: dict, places: Sequence[Position]
) -> Callable[[Position], nn.Module]:
    """Return a function that builds the module of a position, with groups that fit where they are to be chosen."""
    parameters = inspect.signature(attention).parameters
    if 'groups' not in parameters or options.get('groups', 'auto') != 'auto':
        return lambda place: attention(place.channels, **options)
    groups = parameters['groups'].default
    if not isinstance(groups, int) or any(place.channels % groups for place in places):
        groups = FEW_GROUPS

    def build(place: Position) -> nn.Module:
        divisors = [d for d in range(1, place.channels + 1) if place.channels % d == 0]
        for divisor in sorted(divisors, key=lambda d: abs(d - groups)):
            try:
                module = attention(place.channels, **{**options, 'groups': divisor})
            except ValueError:
                continue
            place.note = f'groups={divisor}' + ('' if divisor == groups else f', as {groups} does not divide')
            return module
        return attention(place.channels, **{**options, 'groups': groups})

    return build


def insert(
    model: Any,
    places: Sequence[Position],
    build: Callable[[Position], nn.Module],
    shared: str | None,
    connections: Sequence[int] | None,
    caller: str,
) -> list[Position]:
    """Put attention at positions: the one way in.

    Args:
        model: The network. It gets ``attention_positions``, which :func:`.positions` reads.
        places: Where, in the order of depth.
        build: Builds the module of a position.
        shared: As for :func:`attach`.
        connections: As for :func:`attach`. A module that no position uses isn't built.
        caller: What to call the function in an error.

    Returns:
        The positions, with their attention modules.

    Raises:
        ValueError: ``shared`` or ``connections`` is wrong, the module can't take a position's channels, or there is
            attention already. Then the model is as it was.
    """
    scheme = check_connections(caller, shared, connections, places)
    for place in places:
        if isinstance(model.get_submodule(place.norm), NormAttention):
            raise ValueError(f'{caller}: {place.norm!r} is followed by attention already')
        if isinstance(model.get_submodule(_owner(model, place.norm)[0]), CONTAINERS):
            raise ValueError(
                f'{caller}: the model is itself a {type(model).__name__}, which would run the attention behind '
                f'{place.norm!r} as a step of its own; make it the part of a module, as self.layers, and attach to that'
            )
    # One that is shared belongs to the first position, whether that uses it or not: its keys are the same in every
    # scheme, and it is frozen with its stage.
    keys: list[Any] = [(place.stage, place.channels) if shared else index for index, place in enumerate(places)]
    used = {key for key, on in zip(keys, scheme) if on}
    modules: dict[Any, tuple[str, nn.Module]] = {}
    for place, key in zip(places, keys):
        if key in used and key not in modules:
            try:
                module = build(place)
            except ValueError as error:
                raise ValueError(
                    f'{caller}: attention cannot follow {place.norm!r}, which gives {place.channels} channels: {error}'
                ) from error
            modules[key] = _name(model, place.norm), module
    for name, module in modules.values():
        owner, _, attribute = name.rpartition('.')
        like = next(iter(model.parameters()), None)
        model.get_submodule(owner).add_module(attribute, module if like is None else module.to(like))
    for place, key, on in zip(places, keys, scheme):
        place.attention = modules[key][0] if on else None
        place.switch = Switch(modules[key][1] if on else None, on, place.channels)
    for place in places:
        if place.attention is None:
            continue
        owner, path = _owner(model, place.norm)
        norm = model.get_submodule(place.norm)
        place.switch.module.train(norm.training)
        put_behind(norm, place.switch)
        block = model.get_submodule(owner)
        own = place.attention.rpartition('.')[2] if place.attention == _name(model, place.norm) else None
        sharing = [other.switch for other in places if other.switch.module is place.switch.module]
        block.register_forward_pre_hook(Guard(path, place.switch, *_around(block, path), own, sharing))
    mark_ends(places)
    model.attention_positions = [*getattr(model, 'attention_positions', ()), *places]
    return list(places)


def remove(model: Any, places: Sequence[Position]) -> None:
    """Take the attention off, whatever it computes."""
    names = {place.attention for place in places}
    for place in places:
        norm = model.get_submodule(place.norm)
        if isinstance(norm, NormAttention):
            take_off(norm)
        block: Any = model.get_submodule(_owner(model, place.norm)[0])
        for key, hook in list(block._forward_pre_hooks.items()):
            if isinstance(hook, Guard) and hook.switch is place.switch:
                del block._forward_pre_hooks[key]
    for name in names - {None}:
        owner, _, attribute = str(name).rpartition('.')
        delattr(model.get_submodule(owner), attribute)
    for module in model.modules():
        kept = getattr(module, 'attention_positions', None)
        if kept is not None:
            module.attention_positions = [p for p in kept if all(p.switch is not place.switch for place in places)]


def detach(model: nn.Module, keep_function: bool = True) -> list[Position]:
    """Take a network's attention off again, in place.

    Args:
        model: A network that attention was attached to, or one that has such a part.
        keep_function: Whether the network computes afterwards what it did: each norm is scaled by the constant that its
            attention multiplies with. Defaults to True.

    Returns:
        The positions that there were.

    Raises:
        ValueError: The model has no attention; or ``keep_function`` is set and a module's map isn't constant, as that
            of one that has learned isn't. Then the model is as it was.
    """
    places = positions(model)
    if not places:
        raise ValueError(f'detach: {type(model).__name__} has no attention that was attached to it')
    if keep_function:
        constants: dict[nn.Module, float | None] = {}
        for place in places:
            module = place.switch.module
            if module is not None and module not in constants:
                constants[module] = constant_map(module, place.channels)
                if constants[module] is None:
                    raise ValueError(
                        f'detach: the map of {place.attention} depends on its input, so the network would compute '
                        f'something else without it; with keep_function=False it is taken off all the same'
                    )
        for place in places:
            constant = constants.get(place.switch.module)
            if place.switch.on and constant is not None:
                scale(model.get_submodule(place.norm), constant)
    remove(model, places)
    return places


def _owner(model: nn.Module, name: str) -> tuple[str, str]:
    """The nearest module around ``name`` that isn't a mere container, and the rest of the name."""
    owner, _, child = name.rpartition('.')
    while owner and isinstance(model.get_submodule(owner), CONTAINERS):
        owner, _, part = owner.rpartition('.')
        child = f'{part}.{child}'
    return owner, child


def _name(model: nn.Module, norm: str) -> str:
    """Return the name of the attention module that follows ``norm``."""
    owner, child = _owner(model, norm)
    return f'{owner}.{child.replace(".", "_")}_attention'.lstrip('.')


def _around(block: nn.Module, path: str) -> tuple[str | None, str | None]:
    """Of a norm: the convolution next in front of it. Of a convolution: the norm next behind it."""
    parent, _, name = path.rpartition('.')
    siblings = list((find(block, parent) if parent else block).named_children())
    index = [child for child, _ in siblings].index(name)

    def nearest(candidates: list[tuple[str, nn.Module]], kind: Any) -> str | None:
        found = next((child for child, module in candidates if isinstance(module, kind)), None)
        return f'{parent}.{found}' if parent and found else found

    if not isinstance(siblings[index][1], nn.Conv2d):
        return nearest(siblings[:index][::-1], nn.Conv2d), None
    following = siblings[index + 1 : index + 2]
    return None, nearest(following, _BatchNorm)
