"""Keep what a network computes although it has new attention: what stands where is seen by running it once.

Attention that :func:`ean_mmdet.attach` or a config inserted says itself which norm it follows. A plugin of
MMDetection's blocks, or a module in a backbone of one's own, doesn't, so the order of the calls tells: the norm that
was called last, with nothing between but what commutes with a positive factor. Nothing goes by names, and in the end
the network's output is compared with what it is where each new module's input is divided by its constant.

A module takes part by an attribute ``gate_layers``, see :mod:`ean_mmdet.insertion.keep_function`. A new module without
that attribute takes part if its map is constant as it is.
"""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace

from torch import Tensor, nn

from ..errors import InputError
from ..insertion import Position, constant_map, positions, scale
from ..insertion.keep_function import change, response, tolerance
from ..insertion.norm_attention import Switch
from ..insertion.positions import NORMS

# f(c · x) = c · f(x) for every c > 0
HOMOGENEOUS = (nn.Identity, nn.ReLU, nn.LeakyReLU, nn.PReLU, nn.Dropout, nn.Dropout2d)


class NotKeptError(InputError):
    """The network can't be made to compute what it did."""


def calls(model: nn.Module, units: dict[str, nn.Module] | None = None) -> list[tuple[str, int]]:
    """Run a model on a random image, and note its calls in their order.

    Args:
        model: A backbone, taking an image batch, or anything with ``extract_feat``, such as a detector.
        units: Modules by name that are noted as one; others are if they have no children. Defaults to None.

    Returns:
        The name of each module that was called, and the channels of its input, 0 where that isn't a feature map.
    """
    units = units or {}
    within = {part for unit in units.values() for part in unit.modules()} - set(units.values())
    called: list[tuple[str, int]] = []

    def note(name: str):
        def hook(module: nn.Module, args: tuple) -> None:
            is_map = bool(args) and isinstance(args[0], Tensor) and args[0].dim() == 4
            called.append((name, args[0].shape[1] if is_map else 0))

        return hook

    with contextlib.ExitStack() as hooks:
        for name, module in model.named_modules():
            leaf = not any(module.children()) or isinstance(module, NORMS)
            if name in units or (leaf and module not in within):
                hooks.callback(module.register_forward_pre_hook(note(name)).remove)
        response(model)
    return called


def standing(model: nn.Module, modules: dict[str, nn.Module]) -> list[Position]:
    """Find where modules stand in a network like attention.

    Args:
        model: A backbone, or anything with ``extract_feat``.
        modules: The modules by name.

    Returns:
        A position for each norm whose output one of the modules gets; its ``norm`` is ``''`` where something else made
        the input. A module that wasn't called with a feature map, as its first argument, has none.
    """
    names = {module: name for name, module in modules.items()}
    inserted = [place for place in positions(model) if place.switch.on and place.switch.module in names]
    found = [replace(place, attention=names[place.switch.module]) for place in inserted]
    rest = modules.keys() - {place.attention for place in found}
    parts, called = dict(model.named_modules()), calls(model, modules) if rest else []
    for index, (name, channels) in enumerate(called):
        if name in rest and channels:
            norm = _norm_before([earlier for earlier, _ in called[:index]], parts, modules)
            found.append(Position(norm or '', channels, attention=name, switch=Switch(modules[name])))
    return found


def constants(places: Sequence[Position]) -> dict[str, float | None]:
    """Measure what each attention module multiplies every input by, by its name; None where that isn't one constant."""
    channels = {str(place.attention): (place.switch.module, place.channels) for place in places}
    return {name: constant_map(*arguments) for name, arguments in channels.items()}


def _divide(constant: float):
    return lambda module, args: (args[0] / constant, *args[1:])


def _norm_before(called: list[str], parts: dict[str, nn.Module], gates: dict[str, nn.Module]) -> str | None:
    for name in reversed(called):
        module = parts[name]
        if isinstance(module, NORMS):
            return name if None not in (module.weight, module.bias) else None
        if name not in gates and not isinstance(module, HOMOGENEOUS):
            return None
    return None


def scale_norms(model: nn.Module, places: Sequence[Position], maps: Mapping[str, float]) -> dict[str, float]:
    """Scale the norms in front of attention modules by the inverse of the constants that these multiply with.

    Args:
        model: The model that :func:`standing` saw.
        places: The positions.
        maps: The constant of each attention module, by its name.

    Returns:
        The factor of each norm that was scaled, by the norm's name.

    Raises:
        NotKeptError: A module has no norm in front of it, or the norm's output goes elsewhere too, so that the network
            wouldn't compute what it did. The model is left as it was.
    """
    factors: dict[str, float] = defaultdict(lambda: 1.0)
    gates = {str(place.attention): place.switch.module for place in places}
    for name, norm in dict.fromkeys(
        (str(place.attention), place.norm) for place in places if maps[str(place.attention)] != 1
    ):
        if not norm:
            raise NotKeptError(
                f'{name} has no norm with weight and bias right in front of it to scale by {1 / maps[name]:g}: '
                f'there is none, or something other than an activation like ReLU stands between. Put the attention '
                f'right after a norm'
            )
        factors[norm] /= maps[name]
    with contextlib.ExitStack() as hooks:
        for name, gate in gates.items():
            hooks.callback(gate.register_forward_pre_hook(_divide(maps[name])).remove)
        expected = response(model)
    if expected is None:
        raise NotKeptError(f'{type(model).__name__} takes no random image, on which to see what it computes')
    for norm, factor in factors.items():
        scale(model.get_submodule(norm), factor)
    difference = change(response(model) or [], expected)
    if not difference <= min(100 * tolerance(expected), 0.05):
        for norm, factor in factors.items():
            scale(model.get_submodule(norm), 1 / factor)
        raise NotKeptError(
            f'with {", ".join(list(factors)[:3])} … scaled, the output of the network would change by '
            f'{difference:.2g} of its size. Does the output of one of these norms go elsewhere too, past the attention?'
        )
    return dict(factors)
