"""The checks that the attention modules share."""

from __future__ import annotations

from torch import Tensor, nn


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
