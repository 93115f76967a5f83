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
from dataclasses import dataclass, field

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.instancenorm import _InstanceNorm

from ..errors import InputError
from ..insertion import constant_map, positions, scale
from ..insertion.keep_function import change, response, tolerance

NORMS = (_BatchNorm, _InstanceNorm, nn.GroupNorm, nn.LayerNorm)
# f(c · x) = c · f(x) for every c > 0
HOMOGENEOUS = (nn.Identity, nn.ReLU, nn.LeakyReLU, nn.PReLU, nn.Dropout, nn.Dropout2d)


class NotKeptError(InputError):
    """The network can't be made to compute what it did."""


@dataclass
class Gate:
    """A module that stands in a network like attention.

    Attributes:
        module: The module.
        channels: Channels of its input.
        norms: Names of the norms whose output it gets. None is among them where something else made its input.
        constant: What it multiplies every input by, None where that isn't one constant.
    """

    module: nn.Module
    channels: int = 0
    norms: set[str | None] = field(default_factory=set)
    constant: float | None = None


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


def examine(model: nn.Module, modules: dict[str, nn.Module]) -> dict[str, Gate]:
    """Find the norm in front of each of these modules, and measure their maps.

    Args:
        model: A backbone, or anything with ``extract_feat``.
        modules: The modules by name.

    Returns:
        What was found, by name. A module that wasn't called with a feature map, as its first argument, is left out.
    """
    gates: dict[str, Gate] = {}
    names = {module: name for name, module in modules.items()}
    for place in positions(model):
        module = place.switch.module
        if module in names and place.switch.on:
            gates.setdefault(names[module], Gate(module, place.channels)).norms.add(place.norm)
    if rest := {name: module for name, module in modules.items() if name not in gates}:
        parts = dict(model.named_modules())
        called = calls(model, modules)
        for index, (name, channels) in enumerate(called):
            if name in rest and channels:
                gate = gates.setdefault(name, Gate(rest[name], channels))
                before = [earlier for earlier, _ in called[:index]]
                gate.norms.add(_norm_before(before, parts, modules))
    for gate in gates.values():
        gate.constant = constant_map(gate.module, gate.channels)
    return gates


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


def scale_norms(model: nn.Module, gates: dict[str, Gate]) -> dict[str, float]:
    """Scale the norms in front of these gates by the inverse of the gates' constants.

    Args:
        model: The model that :func:`examine` saw.
        gates: The gates by name, each with a constant.

    Returns:
        The factor of each norm that was scaled, by the norm's name.

    Raises:
        NotKeptError: A gate has no norm in front of it, or the norm's output goes elsewhere too, so that the network
            wouldn't compute what it did. The model is left as it was.
    """
    factors: dict[str, float] = defaultdict(lambda: 1.0)
    for name, gate in gates.items():
        if gate.constant is None or gate.constant == 1:
            continue
        norms = [norm for norm in gate.norms if norm is not None]
        if len(norms) < len(gate.norms):
            raise NotKeptError(
                f'{name} has no norm with weight and bias right in front of it to scale by {1 / gate.constant:g}: '
                f'there is none, or something other than an activation like ReLU stands between. Put the attention '
                f'right after a norm'
            )
        for norm in norms:
            factors[norm] /= gate.constant
    with contextlib.ExitStack() as hooks:
        for gate in gates.values():
            hooks.callback(gate.module.register_forward_pre_hook(_divide(gate.constant or 1)).remove)
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
