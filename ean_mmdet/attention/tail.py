"""The tail of a block, activation(attention(norm(z)) + identity), in as few operations as its modules allow."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.modules import module as torch_module

from ..ops import batch_norm_gate
from .checks import check_feature_map
from .ean import EAN


def untouched(module: nn.Module) -> bool:
    """Whether calling ``module`` is just its class's ``forward``: no hooks, and no other ``forward`` put there."""
    return not (
        module._forward_hooks
        or module._forward_pre_hooks
        or module._backward_hooks
        or module._backward_pre_hooks
        or 'forward' in module.__dict__
        # those of all modules; a forward hook that is always called is among the first
        or torch_module._global_forward_hooks
        or torch_module._global_forward_pre_hooks
        or torch_module._global_backward_hooks
        or torch_module._global_backward_pre_hooks
    )


def tail(
    z: Tensor,
    norm: nn.Module | None,
    plugins: Sequence[nn.Module],
    identity: Tensor | None = None,
    activation: nn.Module | None = None,
    owned: bool = False,
) -> Tensor:
    """Norm, plugins, addition and activation.

    Where the last plugin is an EAN and the activation a ReLU or none, EAN takes the addition and the activation along;
    where the norm is a batch norm right in front of it, that too (:func:`.batch_norm_gate`). Modules of other classes,
    and any with hooks, are called one after the other. Values, gradients and running statistics are the same.

    Args:
        z: What the last convolution gave, shape (N, C, H, W).
        norm: The norm behind the convolution; None if ``z`` is normalized.
        plugins: What comes behind the norm.
        identity: Added to what the last plugin gives, of its shape. Defaults to None.
        activation: Applied last. Defaults to None.
        owned: Whether nobody else sees ``z``, so that the result may be written over it where no gradient is recorded.
            Defaults to False.
    """
    last = plugins[-1] if plugins else None
    ean = last if type(last) is EAN and untouched(last) else None
    if activation is not None and not (type(activation) is nn.ReLU and untouched(activation)):
        ean = None
    # Asked here: checkpointing may turn gradients off for a part of the block, which then needs its input again.
    inplace = owned and not torch.is_grad_enabled()
    name = None if activation is None else 'relu'
    if ean is not None and len(plugins) == 1 and type(norm) is nn.BatchNorm2d and untouched(norm):
        return _batch_norm_ean(z, norm, ean, identity, name, inplace)
    if norm is not None:
        z, inplace = norm(z), not torch.is_grad_enabled() and untouched(norm)
    for plugin in plugins if ean is None else plugins[:-1]:
        z, inplace = plugin(z), False
    if ean is not None:
        return ean(z, identity, name, inplace)
    if identity is not None:
        z = z + identity
    return z if activation is None else activation(z)


def _batch_norm_ean(
    z: Tensor, norm: nn.BatchNorm2d, ean: EAN, identity: Tensor | None, activation: str | None, inplace: bool
) -> Tensor:
    """What ``norm``'s own ``forward`` does around the arithmetic, and the arithmetic together with the EAN's."""
    check_feature_map(ean, z, ean.in_channels)
    momentum = 0.0 if norm.momentum is None else norm.momentum
    updated = norm.training and norm.track_running_stats
    if updated and norm.num_batches_tracked is not None:
        norm.num_batches_tracked.add_(1)
        if norm.momentum is None:
            momentum = 1.0 / float(norm.num_batches_tracked)
    seen = updated or not norm.training
    return batch_norm_gate(
        z,
        norm.running_mean if seen else None,
        norm.running_var if seen else None,
        ean.alpha,
        ean.delta,
        ean.weight,
        ean.bias,
        ean.weight_norm,
        norm.weight,
        norm.bias,
        norm.training,
        momentum,
        norm.eps,
        ean.eps,
        identity,
        activation,
        inplace,
    )
