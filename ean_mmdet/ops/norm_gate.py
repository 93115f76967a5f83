"""The normalization-guided gate that every EAN computes, folded into one GroupNorm and one sigmoid.

Li, Li and Wen, 'EAN: An Efficient Attention Module Guided by Normalization for Deep Neural Networks', AAAI 2024,
Eq. 5 to 9 with the learned vectors folded into one scale and one shift a channel.

:func:`norm_gate` is that alone, :func:`batch_norm_gate` together with the batch norm in front of it. Both are the
operator of :mod:`.operator`, whose implementations :mod:`.backends` chooses from.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.nn.functional import _verify_batch_size as verify_batch_size  # type: ignore[attr-defined]

from . import norm_gate_eager
from .batch_norm import BatchNorm
from .dtypes import arithmetic_type, in_one_type, in_type
from .fold import WEIGHT_NORMS, Vectors
from .operator import gate

Fields = TypeVar('Fields', Vectors, BatchNorm)

NO_NORM = BatchNorm(None, None, None, None, 0.0, False)


def norm_gate(
    x: Tensor,
    scale: Tensor,
    shift: Tensor,
    eps: float = 1e-5,
    residual: Tensor | None = None,
    activation: str | None = None,
    inplace: bool = False,
) -> Tensor:
    """Gate a feature map with a mask made from its own instance normalization.

    y = x · sigmoid(scale · x̂ + shift), x̂ = (x − mean) / sqrt(var + eps), with the mean and the biased variance of
    each sample's each channel over height and width. With a residual and an activation, the whole tail of a residual
    block in one operation: activation(y + residual).

    Statistics, mask and the gradients of ``scale`` and ``shift`` are computed in float32 at least, whatever the type
    of ``x``. For the gradient ``x`` is kept, and with ReLU the output, which the next layer keeps anyway. There are no
    second derivatives, except under ``torch.func``, whose transforms get the formula in plain PyTorch.

    The environment variable ``EAN_BACKEND`` forces an implementation: ``eager``, ``cpp`` or ``triton``. By default it
    is Triton on GPUs that it supports, the compiled kernels on a CPU, both for float32, float16 and bfloat16, and eager
    PyTorch otherwise.

    Args:
        x: Feature map of shape (N, C, H, W) and a floating-point type.
        scale: Factor on the normalized feature, shape (C,), or (C / G,) where G groups of channels share it.
        shift: Summand to the normalized feature, of the shape of ``scale``.
        eps: Added to the variance. Defaults to 1e-5.
        residual: Summand to the gated feature map, of the shape of ``x``. Defaults to None.
        activation: ``'relu'`` or None. Defaults to None.
        inplace: Whether the result may be written over ``x``, as it is under ``torch.no_grad`` and
            ``torch.inference_mode`` unless something is in the way: the eager implementation, ``torch.compile``,
            ``torch.func``, a residual in the memory of ``x``, gaps or overlaps in that memory. Defaults to False.

    Returns:
        The gated feature map, of the shape, type and memory format of ``x``; of the wider type where ``residual`` has
        another one.

    Raises:
        ValueError: ``x`` isn't four-dimensional, ``scale``, ``shift`` or ``residual`` has the wrong shape or device,
            or ``activation`` or ``EAN_BACKEND`` is unknown.
        TypeError: ``x`` isn't of a floating-point type.
        RuntimeError: ``EAN_BACKEND`` forces an implementation that can't run here.
    """
    check_vectors('norm_gate', x, scale=scale, shift=shift)
    return checked_gate('norm_gate', x, Vectors(None, None, scale, shift, 'l2'), eps, residual, activation, inplace)[0]


def batch_norm_gate(
    z: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    alpha: Tensor,
    delta: Tensor,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    weight_norm: str = 'l2',
    norm_weight: Tensor | None = None,
    norm_bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    norm_eps: float = 1e-5,
    eps: float = 1e-5,
    residual: Tensor | None = None,
    activation: str | None = None,
    inplace: bool = False,
) -> Tensor:
    """Batch norm and EAN in one: activation(ean_gate(batch_norm(z)) + residual).

    The batch norm is an affine function of z, one a channel, and each plane's mean and variance tell its statistics
    too. So the gradient takes z, which a convolution and its batch norm keep anyway, a few numbers a plane and, with
    ReLU, the output: no feature map that a network without the gate does not keep.

    Args:
        z: Feature map of shape (N, C, H, W) and a floating-point type.
        running_mean: The batch norm's running mean, shape (C,); updated in training. None: it has none, and normalizes
            with the batch's statistics always.
        running_var: The batch norm's running variance, as ``running_mean``.
        alpha: EAN's α, shape (C / G,) for the G groups of channels that share it. Without ``weight`` and ``bias`` the
            factor on the instance-normalized feature, :func:`norm_gate`'s ``scale``.
        delta: EAN's δ, of the shape of ``alpha``; :func:`norm_gate`'s ``shift``.
        weight: EAN's γ, of the shape of ``alpha``. Defaults to None.
        bias: EAN's β, of the shape of ``alpha``. Defaults to None.
        weight_norm: Which norm γ is divided by, see :func:`.ean_gate`. Defaults to ``'l2'``.
        norm_weight: The batch norm's weight, shape (C,). Defaults to None, ones.
        norm_bias: The batch norm's bias, shape (C,). Defaults to None, zeros.
        training: Whether the batch norm normalizes with the batch's statistics. Defaults to False.
        momentum: Weight of the batch in the running statistics. Defaults to 0.1.
        norm_eps: Added to the batch norm's variance. Defaults to 1e-5.
        eps: Added to the gate's variance and to EAN's norm. Defaults to 1e-5.
        residual: Summand to the gated feature map, of the shape of ``z``. Defaults to None.
        activation: ``'relu'`` or None. Defaults to None.
        inplace: Whether the result may be written over ``z``; as in :func:`norm_gate`, and not in training.
            Defaults to False.

    Returns:
        As :func:`norm_gate`.

    Raises:
        ValueError: As :func:`norm_gate`; a vector isn't of the shape that it must be; ``weight_norm`` is unknown; or
            there is but one value a channel in training.
        TypeError, RuntimeError: As :func:`norm_gate`.
    """
    if weight_norm not in WEIGHT_NORMS:
        raise ValueError(f'batch_norm_gate: weight_norm must be one of {", ".join(WEIGHT_NORMS)}, got {weight_norm!r}')
    check_vectors('batch_norm_gate', z, alpha=alpha, delta=delta, weight=weight, bias=bias)
    of_norm = running_mean, running_var, norm_weight, norm_bias
    if z.dim() == 4 and not _are_vectors(of_norm, z.shape[1], z.device):
        names = 'running_mean', 'running_var', 'norm_weight', 'norm_bias'
        for name, vector in zip(names, of_norm):
            if vector is not None and not _are_vectors((vector,), z.shape[1], z.device):
                raise ValueError(
                    f'batch_norm_gate: {name} must be of shape (C,) = ({z.shape[1]},) and on {z.device}, '
                    f'got {tuple(vector.shape)} on {vector.device}'
                )
    training = training or running_mean is None
    if training:
        verify_batch_size(z.shape)
    mean, var = (None, None) if training else (running_mean, running_var)
    y, batch = checked_gate(
        'batch_norm_gate', z, Vectors(weight, bias, alpha, delta, weight_norm), eps, residual, activation, inplace,
        BatchNorm(norm_weight, norm_bias, mean, var, norm_eps, training),
    )  # fmt: skip
    if training and running_mean is not None and running_var is not None and batch is not None and z.numel():
        count = z.numel() / z.shape[1]
        batch_mean, batch_var = in_type(batch, running_mean.dtype)
        running_mean.lerp_(batch_mean, momentum)
        running_var.mul_(1 - momentum).add_(batch_var, alpha=momentum * count / (count - 1))
    return y


def checked_gate(
    function: str,
    z: Tensor,
    vectors: Vectors,
    eps: float,
    residual: Tensor | None,
    activation: str | None,
    inplace: bool,
    norm: BatchNorm = NO_NORM,
) -> tuple[Tensor, Tensor | None]:
    """The public functions' common door: the checks that are not of their vectors, and one type for all.

    Returns:
        The result, and the batch's mean and variance, shape (2, C), where ``norm`` is in training.
    """
    name = 'x' if norm is NO_NORM else 'z'
    if z.dim() != 4:
        raise ValueError(f'{function}: {name} must be of shape (N, C, H, W), got {tuple(z.shape)}')
    if not z.is_floating_point():
        raise TypeError(f'{function}: {name} must be of a floating-point type, got {z.dtype}')
    if residual is not None and (residual.shape != z.shape or residual.device != z.device):
        raise ValueError(
            f'{function}: residual must be of the shape of {name}, {tuple(z.shape)}, and on {z.device}, '
            f'got {tuple(residual.shape)} on {residual.device}'
        )
    if activation not in (None, 'relu'):
        raise ValueError(f"{function}: activation must be 'relu' or None, got {activation!r}")
    z, residual = in_one_type(z, residual)
    dtype, relu = arithmetic_type(z), activation == 'relu'
    vectors = in_dtype(vectors, dtype)
    if norm is not NO_NORM:
        norm = in_dtype(norm, dtype)
    if not torch.compiler.is_compiling() and torch._C._are_functorch_transforms_active():
        # The operator's autograd knows nothing of torch.func.
        y, _, batch = norm_gate_eager.forward(z, vectors, eps, residual, relu, norm)
        return y, batch if batch is None else batch.detach()
    return gate(z, vectors, eps, residual, relu, norm, inplace)


def in_dtype(fields: Fields, dtype: torch.dtype) -> Fields:
    """The same with its tensors in ``dtype``."""
    for value in fields[:4]:
        if value is not None and value.dtype != dtype:
            values: list[Any] = [in_type(v, dtype) if isinstance(v, Tensor) else v for v in fields]
            return type(fields)(*values)
    return fields


def check_vectors(function: str, z: Tensor, **vectors: Tensor | None) -> None:
    """See that the gate's vectors are on the device of ``z``, all of one shape, and of one that fits its channels."""
    leading = next(iter(vectors.values()))
    (first,) = leading.shape[:1] or (0,) if leading is not None else (0,)
    if z.dim() == 4 and first and z.shape[1] % first == 0 and _are_vectors(vectors.values(), first, z.device):
        return
    channels = z.shape[1] if z.dim() == 4 else 0
    for name, vector in vectors.items():
        if vector is None:
            continue
        if vector.device != z.device:
            raise ValueError(
                f'{function}: {name} is on {vector.device}, the map on {z.device}; they must be on one device'
            )
        size = len(vector) if vector.dim() == 1 else 0
        if size != first or (channels % size if size else channels or vector.dim() != 1):
            raise ValueError(
                f'{function}: {name} must be of shape (C,) = ({channels},) as the map has {channels} channels, or '
                f'(C / G,) for G groups, all of one shape; got {tuple(vector.shape)}'
            )


def _are_vectors(vectors: Iterable[Tensor | None], size: int, device: torch.device) -> bool:
    """Tell whether all, None aside, are of shape (size,) and on ``device``."""
    for vector in vectors:
        if vector is not None and (vector.dim() != 1 or vector.numel() != size or vector.device != device):
            return False
    return True
