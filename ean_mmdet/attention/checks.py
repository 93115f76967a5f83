"""The checks that the attention modules share."""

from __future__ import annotations

from torch import Tensor, nn

from ..errors import InputError


def check_ratio(module: nn.Module, in_channels: int, ratio: int) -> None:
    """See that ``ratio`` leaves at least one hidden channel."""
    if in_channels < 1 or not 1 <= ratio <= in_channels:
        raise ValueError(
            f'{type(module).__name__}: ratio must be 1 to in_channels={in_channels}, so that the hidden layer has a '
            f'channel, got {ratio}'
        )


def check_divisible(module: nn.Module, in_channels: int, divisor: int, name: str) -> None:
    """See that ``divisor``, the argument called ``name``, divides ``in_channels``."""
    if in_channels < 1 or divisor < 1 or in_channels % divisor:
        divisors = [d for d in range(1, in_channels + 1) if in_channels % d == 0]
        raise ValueError(
            f'{type(module).__name__}: in_channels={in_channels} must be divisible by {name}={divisor}; '
            f'{name} can be one of {divisors} here'
        )


def check_feature_map(module: nn.Module, x: Tensor, channels: int) -> None:
    """See that ``x`` is of shape (N, channels, H, W)."""
    if x.dim() != 4 or x.shape[1] != channels:
        raise ValueError(
            f'{type(module).__name__}: expected a feature map of shape (N, {channels}, H, W), got {tuple(x.shape)}'
        )


def gate_layers(module: nn.Module) -> tuple[nn.Module, ...] | None:
    """The layers of an attention module that, zeroed, make its map constant; None where it doesn't say.

    Raises:
        InputError: Its ``gate_layers`` are something else than layers of it.
    """
    layers = getattr(module, 'gate_layers', None)
    if layers is None:
        return None
    own = set(module.modules())
    if isinstance(layers, (tuple, list)) and all(isinstance(layer, nn.Module) and layer in own for layer in layers):
        return tuple(layers)
    raise InputError(
        f'{type(module).__name__}.gate_layers must be a tuple of layers of the module itself, as (self.fc,), or () '
        f'where its map is constant at the start, got {layers!r}'
    )
