"""The lift: scale the norm in front of each gate so that a network with new gates computes what it did without them.

A gate multiplies its input by a mask. Where that mask is one constant m at the start, whatever the input, a norm in
front with its weight and bias divided by m makes the gate's output what the norm's was. An EAN starts with m = ½ (Li,
Li and Wen, AAAI 2024, Eq. 7 to 9 with α = δ = 0); SE, ECA and Coordinate Attention have such a mask once their last
layer is zero.

Nothing here goes by the names of modules. The masks are measured, the norms found by running the network, and in the
end its output is compared with what it has to be.

A module takes part by an attribute ``gate_layers``: the layers whose weights and biases, set to zero, make its mask
constant, ``()`` where it starts so. A new module without that attribute takes part if its mask is constant as it is.
"""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.instancenorm import _InstanceNorm

from ..attention.checks import gate_layers
from ..errors import InputError

NORMS = (_BatchNorm, _InstanceNorm, nn.GroupNorm, nn.LayerNorm)
# f(c · x) = c · f(x) for every c > 0
HOMOGENEOUS = (nn.Identity, nn.ReLU, nn.LeakyReLU, nn.PReLU, nn.Dropout, nn.Dropout2d)
PROBE_SIZE = 64


@contextlib.contextmanager
def _undisturbed(module: nn.Module, training: bool = False) -> Iterator[None]:
    """Run a module in one mode throughout, without gradients, and leave no trace in its statistics or the generator."""
    modes = {part: part.training for part in module.modules()}
    buffers = {buffer: buffer.clone() for buffer in module.buffers()}
    try:
        for part in modes:
            part.training = training
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            yield
    finally:
        with torch.no_grad():
            for buffer, value in buffers.items():
                buffer.copy_(value)
        for part, mode in modes.items():
            part.training = mode


def initial_mask(gate: nn.Module, channels: int) -> float | None:
    """Measure the mask of a gate: the constant that it multiplies every input by, as it is now.

    Args:
        gate: The module, (N, channels, H, W) in, the same out.
        channels: Channels of its input.

    Returns:
        The constant, or None where the output isn't the input times one positive constant, in training as in
        evaluation mode.
    """
    like = next((p for p in gate.parameters() if p.is_floating_point()), torch.empty(0))
    generator = torch.Generator().manual_seed(0)
    # samples of different size and mean, so that a mask that depends on either shows.
    spread = torch.tensor([0.5, 1.0, 2.0, 4.0]).view(4, 1, 1, 1)
    x = torch.randn(4, channels, 7, 9, generator=generator) * spread + spread.flip(0) - 1
    x = x.to(like)
    tolerance = 1e-2 if like.dtype in (torch.float16, torch.bfloat16) else 1e-5
    masks = []
    for training in (False, True):
        with _undisturbed(gate, training):
            try:
                y = gate(x.clone())  # a gate may work in place
            except (RuntimeError, ValueError, TypeError):
                if hasattr(gate, 'gate_layers'):
                    raise
                return None  # takes no such input, so it is no gate
        if not isinstance(y, Tensor) or y.shape != x.shape:
            return None
        masks.append((y / x)[x.abs() > 0.1].double())
    measured = torch.cat(masks)
    mask = measured.median().item()
    return mask if mask > 0 and (measured - mask).abs().max().item() <= tolerance * mask else None


def zero_gate_layers(gate: nn.Module) -> None:
    """Set the weights and biases of a module's ``gate_layers`` to zero."""
    for layer in gate_layers(gate) or ():
        for parameter in layer.parameters():
            nn.init.zeros_(parameter)


@dataclass
class Gate:
    """A module that stands in a network like a gate.

    Attributes:
        module: The module.
        channels: Channels of its input.
        norms: Names of the norms whose output it gets, through nothing but activations that commute with a positive
            factor, such as ReLU, and other gates. None is among them where something else made its input.
        mask: The constant that it multiplies every input by, None where there is no such constant.
    """

    module: nn.Module
    channels: int = 0
    norms: set[str | None] = field(default_factory=set)
    mask: float | None = None


def examine(model: nn.Module, modules: dict[str, nn.Module]) -> dict[str, Gate]:
    """Run a model once to see what makes the input of these modules of it, and measure their masks.

    Args:
        model: A backbone, taking an image batch, or anything with ``extract_feat``, such as a detector.
        modules: The modules by name.

    Returns:
        What was seen, by name. A module that wasn't called with a feature map, as its first argument, is left out.
    """
    gates: dict[str, Gate] = {}
    outputs: dict[int, tuple[Tensor, int, str]] = {}  # by the id of a tensor: it, its version, the norm
    pending: dict[nn.Module, str | None] = {}

    def origin(x: Tensor) -> str | None:
        # a tensor that was changed in place since is another one.
        tensor, version, norm = outputs.get(id(x), (None, 0, None))
        return norm if tensor is x and version == x._version else None

    def leave(x: Tensor, norm: str | None) -> None:
        if norm is not None and isinstance(x, Tensor):
            outputs[id(x)] = (x, x._version, norm)

    def enter_gate(name: str) -> Callable:
        def hook(module: nn.Module, args: tuple, kwargs: dict) -> None:
            if args and isinstance(args[0], Tensor) and args[0].dim() == 4:
                gate = gates.setdefault(name, Gate(module, args[0].shape[1]))
                gate.norms.add(origin(args[0]))
                # with more arguments it does more than gate, such as add the shortcut.
                pending[module] = origin(args[0]) if len(args) == 1 and not kwargs else None

        return hook

    def enter(module: nn.Module, args: tuple) -> None:
        pending[module] = origin(args[0]) if args else None

    def leave_pending(module: nn.Module, args: tuple, output: Tensor) -> None:
        leave(output, pending.pop(module, None))

    def leave_norm(name: str) -> Callable:
        return lambda module, args, output: leave(output, name)

    with contextlib.ExitStack() as hooks:
        for name, module in model.named_modules():
            # hooks first in line: a gate may itself hang on a norm as a hook.
            if name in modules:
                hooks.callback(module.register_forward_pre_hook(enter_gate(name), with_kwargs=True).remove)
                hooks.callback(module.register_forward_hook(leave_pending, prepend=True).remove)
            elif isinstance(module, HOMOGENEOUS):
                hooks.callback(module.register_forward_pre_hook(enter).remove)
                hooks.callback(module.register_forward_hook(leave_pending, prepend=True).remove)
            elif isinstance(module, NORMS) and None not in (module.weight, module.bias):
                hooks.callback(module.register_forward_hook(leave_norm(name), prepend=True).remove)
        _features(model)
    for gate in gates.values():
        gate.mask = initial_mask(gate.module, gate.channels)
    return gates


def lift(model: nn.Module, gates: dict[str, Gate]) -> dict[str, float]:
    """Scale the norms in front of these gates by the inverse of the gates' masks.

    Args:
        model: The model that :func:`examine` saw.
        gates: The gates by name, each with a mask.

    Returns:
        The factor of each norm that was scaled, by the norm's name.

    Raises:
        InputError: A gate has no norm in front of it, or the norm's output goes elsewhere too, so that the network
            wouldn't compute what it did. The model is left as it was.
    """
    factors: dict[str, float] = defaultdict(lambda: 1.0)
    for name, gate in gates.items():
        if gate.mask is None or gate.mask == 1:
            continue
        norms = [norm for norm in gate.norms if norm is not None]
        if len(norms) < len(gate.norms):
            raise InputError(
                f'{name} has no norm with weight and bias right in front of it to scale by {1 / gate.mask:g}: there is '
                f'none, or something other than an activation like ReLU stands between. Put the attention right after '
                f"a norm, or load the checkpoint without the lift by init_cfg=dict(type='Pretrained', …)"
            )
        for norm in norms:
            factors[norm] /= gate.mask
    expected = _features(model, gates)
    modules = dict(model.named_modules())
    _scale(modules, factors)
    change = _relative_change(_features(model), expected)
    if not change <= _tolerance(expected):
        _scale(modules, {norm: 1 / factor for norm, factor in factors.items()})
        raise InputError(
            f'with {", ".join(list(factors)[:3])} … scaled, the output of the network would change by {change:.2g} of '
            f'its size. Does the output of one of these norms go elsewhere too, past the attention? To load the '
            f"checkpoint without the lift, use init_cfg=dict(type='Pretrained', …)"
        )
    return dict(factors)


def _features(model: nn.Module, undone: dict[str, Gate] | None = None) -> list[Tensor]:
    """The model's feature maps of a random image; the input of each gate in ``undone`` is divided by its mask."""
    like = next(p for p in model.parameters() if p.is_floating_point())
    channels = next((module.in_channels for module in model.modules() if isinstance(module, nn.Conv2d)), 3)
    image = torch.randn(1, channels, PROBE_SIZE, PROBE_SIZE, generator=torch.Generator().manual_seed(0))
    run = getattr(model, 'extract_feat', model)
    with contextlib.ExitStack() as stack:
        for gate in (undone or {}).values():
            hook = gate.module.register_forward_pre_hook(_divide(1 if gate.mask is None else gate.mask))
            stack.callback(hook.remove)
        stack.enter_context(_undisturbed(model))
        return list(_tensors(run(image.to(like))))


def _divide(mask: float) -> Callable:
    return lambda module, args: (args[0] / mask, *args[1:])


def _tensors(value: object) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict):
        yield from _tensors(list(value.values()))
    elif isinstance(value, Iterable):
        for part in value:
            yield from _tensors(part)


def _scale(modules: dict[str, Any], factors: dict[str, float]) -> None:
    with torch.no_grad():
        for name, factor in factors.items():
            modules[name].weight.mul_(factor)
            modules[name].bias.mul_(factor)


def _relative_change(actual: list[Tensor], expected: list[Tensor]) -> float:
    changes = [(a - e).abs().max() / e.abs().max().clamp_min(1e-12) for a, e in zip(actual, expected)]
    return torch.stack(changes).max().item()


def _tolerance(tensors: list[Tensor]) -> float:
    return {torch.float64: 1e-9, torch.float32: 1e-3}.get(tensors[0].dtype, 5e-2)
