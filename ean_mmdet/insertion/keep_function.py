"""Attention that changes nothing at its start: the norm in front scaled by the inverse of the attention's map.

Where an attention module multiplies its input by one constant m, whatever the input, a norm in front with its weight
and bias divided by m makes the module's output what the norm's was. An EAN starts with m = ½ (Li, Li and Wen, AAAI
2024, Eq. 7 to 9 with α = δ = 0); SE, ECA and Coordinate Attention have such a map once their last layer is zero.

A module says how by an attribute ``gate_layers``: the layers whose weights and biases, set to zero, make its map
constant, ``()`` where it starts so.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..attention.checks import gate_layers
from .norm_attention import channels_of
from .positions import Position

PROBE_SIZES = (64, 224, 299)
TOLERANCES = {torch.float64: 1e-12, torch.float32: 1e-5}
# Forwards whose output is known to be multiplied with weight and bias.
KNOWN = (_BatchNorm.forward, nn.GroupNorm.forward, nn.SyncBatchNorm.forward, nn.Conv2d.forward)


@contextlib.contextmanager
def undisturbed(module: nn.Module, training: bool = False) -> Iterator[None]:
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


def _like(module: nn.Module) -> Tensor:
    return next((p for p in module.parameters() if p.is_floating_point()), torch.empty(0))


def constant_map(attention: nn.Module, channels: int) -> float | None:
    """Measure the constant that an attention module multiplies every input by, as it is now.

    Args:
        attention: The module, (N, channels, H, W) in, the same out.
        channels: Channels of its input.

    Returns:
        The constant, or None where the output isn't the input times one positive constant, in training as in
        evaluation mode.
    """
    like = _like(attention)
    generator = torch.Generator().manual_seed(0)
    # samples of different size and mean, so that a map that depends on either shows.
    spread = torch.tensor([0.5, 1.0, 2.0, 4.0]).view(4, 1, 1, 1)
    x = torch.randn(4, channels, 7, 9, generator=generator) * spread + spread.flip(0) - 1
    x = x.to(like)
    tolerance = 1e-2 if like.dtype in (torch.float16, torch.bfloat16) else 1e-5
    maps = []
    for training in (False, True):
        with undisturbed(attention, training):
            try:
                y = attention(x.clone())  # it may work in place
            except (RuntimeError, ValueError, TypeError):
                if hasattr(attention, 'gate_layers'):
                    raise
                return None  # takes no such input, so it is no attention module
        if not isinstance(y, Tensor) or y.shape != x.shape:
            return None
        maps.append((y / x)[x.abs() > 0.1].double())
    measured = torch.cat(maps)
    constant = measured.median().item()
    return constant if constant > 0 and (measured - constant).abs().max().item() <= tolerance * constant else None


def zero_gate_layers(attention: nn.Module) -> None:
    """Set the weights and biases of a module's ``gate_layers`` to zero."""
    for layer in gate_layers(attention) or ():
        for parameter in layer.parameters():
            nn.init.zeros_(parameter)


def scale(module: nn.Module, factor: float) -> None:
    """Multiply the weight and bias of a norm or a convolution, and so its output.

    Raises:
        ValueError: It has no weight, or its output isn't multiplied by that.
    """
    kind = getattr(module, 'plain', type(module)).__name__
    if not isinstance(getattr(module, 'weight', None), Tensor):
        raise ValueError(f'{kind} has no weight to scale')
    forward = getattr(module, 'normalize', module.forward)
    if getattr(forward, '__func__', None) not in KNOWN and not _scales(module):
        raise ValueError(f'the output of {kind} does not scale with its weight and bias')
    _multiply(module, factor)


@torch.no_grad()
def _multiply(module: Any, factor: float) -> None:
    for tensor in (module.weight, getattr(module, 'bias', None)):
        if isinstance(tensor, Tensor):
            tensor.mul_(factor)


@torch.no_grad()
def _scales(module: nn.Module) -> bool:
    """Tell whether the output of a module, with random weights, is multiplied with them."""
    copied, channels = copy.deepcopy(module).eval(), channels_of(module)
    if channels is None:
        return False
    generator = torch.Generator().manual_seed(0)
    for parameter in copied.parameters():
        parameter.copy_(torch.rand(parameter.shape, generator=generator) + 0.5)
    x = torch.randn(2, getattr(copied, 'in_channels', channels), 11, 11, generator=generator)
    forward, x = getattr(copied, 'normalize', copied), x.to(_like(copied))
    before = forward(x)
    _multiply(copied, 2)
    return change([forward(x)], [2 * before]) <= tolerance([before])


def keep_function(model: nn.Module, places: Sequence[Position], caller: str = 'keep_function') -> None:
    """Scale the norm of each position so that its attention changes nothing, having zeroed what must be zero.

    Args:
        model: The model. Where it raises, the model is changed in part.
        places: Positions of new attention, see :func:`.positions`. Their ``scale`` is set.
        caller: What to call the function in an error.

    Raises:
        ValueError: A module's map can't be made constant, or there is no weight to scale.
    """
    constants: dict[nn.Module, float] = {}
    for place in places:
        attention = place.switch.module
        if attention is None or not place.switch.on:
            continue
        if attention not in constants:
            zero_gate_layers(attention)
            constant = constant_map(attention, place.channels)
            if constant is None:
                raise ValueError(
                    f'{caller}: the map of {type(attention).__name__} ({place.attention}) depends on its input from '
                    f'the start, so the network would not compute what it did; with keep_function=False it is attached '
                    f'as it is'
                )
            constants[attention] = constant
        place.scale = 1 / constants[attention]
        try:
            scale(model.get_submodule(place.norm), place.scale)
        except ValueError as error:
            raise ValueError(
                f'{caller}: {place.norm}: {error}, so the attention behind it would change what the network computes; '
                f'with keep_function=False it is attached as it is'
            ) from None


@torch.no_grad()
def response(model: nn.Module) -> list[Tensor] | None:
    """Return a model's output for a random image, in evaluation mode; None where it takes none.

    It is called with a batch of shape (1, C, H, W), or its ``extract_feat`` where it has that.
    """
    channels = next((module.in_channels for module in model.modules() if isinstance(module, nn.Conv2d)), 3)
    run: Any = getattr(model, 'extract_feat', model)
    for size in PROBE_SIZES:
        image = torch.randn(1, channels, size, size, generator=torch.Generator().manual_seed(0))
        with undisturbed(model):
            try:
                found = [t for t in tensors(run(image.to(_like(model)))) if t.is_floating_point() and t.numel()]
            except Exception:  # whatever a model says that takes no such image
                continue
        if found and all(tensor.isfinite().all() for tensor in found):
            return found
    return None


def change(actual: Sequence[Tensor], expected: Sequence[Tensor]) -> float:
    """The largest difference, in shares of the largest value of its tensor."""
    if [t.shape for t in actual] != [t.shape for t in expected]:
        return float('inf')
    changes = [(a - e).abs().max() / e.abs().max().clamp_min(1e-12) for a, e in zip(actual, expected)]
    return torch.stack([value.double().cpu() for value in changes]).max().item() if changes else 0.0


def tolerance(expected: Sequence[Tensor]) -> float:
    """The change that rounding makes."""
    return max(TOLERANCES.get(t.dtype, 2e-2) for t in expected)


def tensors(value: object) -> Iterator[Tensor]:
    """All tensors in nested dicts and sequences."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict):
        yield from tensors(list(value.values()))
    elif isinstance(value, Iterable) and not isinstance(value, str):
        for part in value:
            yield from tensors(part)
