"""EAN straight from the paper's Eq. 5 to 9, in the plainest PyTorch: what the fast code is held to."""

from __future__ import annotations

import torch
from torch import Tensor


def plain_norm_gate(x: Tensor, scale: Tensor, shift: Tensor, eps: float = 1e-5) -> Tensor:
    mean = x.mean(dim=(2, 3), keepdim=True)
    variance = (x - mean).square().mean(dim=(2, 3), keepdim=True)
    normalized = (x - mean) / torch.sqrt(variance + eps)
    return x * torch.sigmoid(scale.view(1, -1, 1, 1) * normalized + shift.view(1, -1, 1, 1))


def plain_ean(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    alpha: Tensor,
    delta: Tensor,
    groups: int,
    weight_norm: str = 'l2',
    eps: float = 1e-5,
) -> Tensor:
    batch, channels, height, width = x.shape
    vector = (1, 1, channels // groups, 1, 1)
    grouped = x.reshape(batch, groups, channels // groups, height, width)
    mean = grouped.mean(dim=(3, 4), keepdim=True)
    variance = grouped.var(dim=(3, 4), keepdim=True, unbiased=False)
    group_norm = weight.view(vector) * (grouped - mean) / torch.sqrt(variance + eps) + bias.view(vector)  # Eq. 5
    if weight_norm == 'l2':
        importance = weight / torch.sqrt((weight**2).sum() + eps)  # Eq. 6
    elif weight_norm == 'rms':
        importance = weight / torch.sqrt((weight**2).mean() + eps)
    else:
        importance = weight / (weight.abs().mean() + eps)
    weighted = importance.view(vector) * group_norm  # Eq. 7
    mask = 1 / (1 + torch.exp(-(alpha.view(vector) * weighted + delta.view(vector))))  # Eq. 8
    return (mask * grouped).reshape(x.shape)  # Eq. 9


def plain_batch_norm_gate(
    z: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    scale: Tensor,
    shift: Tensor,
    norm_weight: Tensor | None = None,
    norm_bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    residual: Tensor | None = None,
    relu: bool = False,
) -> Tensor:
    """PyTorch's own batch norm and :func:`plain_norm_gate`."""
    x = torch.nn.functional.batch_norm(
        z, running_mean, running_var, norm_weight, norm_bias, training or running_mean is None, momentum
    )
    repeats = z.shape[1] // len(scale)
    y = plain_norm_gate(x, scale.repeat(repeats), shift.repeat(repeats))
    y = y if residual is None else y + residual
    return y.relu() if relu else y
