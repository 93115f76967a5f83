"""The normalization-guided gate that every EAN computes, folded into one GroupNorm and one sigmoid.

Li, Li and Wen, 'EAN: An Efficient Attention Module Guided by Normalization for Deep Neural Networks', AAAI 2024,
Eq. 5 to 9 with the learned vectors folded into one scale and one shift a channel.

:func:`norm_gate` is that alone, :func:`batch_norm_gate` together with the batch norm in front of it. Both are the
operator of :mod:`.operator`, whose implementations :mod:`.backends` chooses from.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from .batch_norm import BatchNorm
from .dtypes import in_type
from .fold import WEIGHT_NORMS, Vectors
from .operator import ACTIVATIONS, gate, quick

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
    """Gate a feature map with an attention map made from its own instance normalization.

    y = x · sigmoid(scale · x̂ + shift), x̂ = (x − mean) / sqrt(var + eps), with the mean and the biased variance of
    each sample's each channel over height and width. With a residual and an activation, the end of a residual
    block in one operation: activation(y + residual).

    Statistics, attention map and the gradients of ``scale`` and ``shift`` are computed in float32 at least, whatever
    the type of ``x``. For the gradient ``x`` is kept, and with ReLU the output, which the next layer keeps anyway.
    There are no second derivatives, except under ``torch.func``, whose transforms get the formula in plain PyTorch.

    The environment variable ``EAN_BACKEND``, as it is when the package is imported, forces an implementation:
    ``eager``, ``cpp`` or ``triton``. By default it is Triton on GPUs that it supports, the compiled kernels on a CPU,
    both for float32, float16 and bfloat16, and eager PyTorch otherwise.

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
    y = quick(x, None, None, scale, shift, 'l2', eps, *NO_NORM, 0.0, residual, activation, inplace)
    if y is not None:
        return y
    vectors = Vectors(None, None, scale, shift, 'l2')
    check('norm_gate', x, vectors, residual, activation)
    return gate(x, vectors, eps, residual, activation == 'relu', NO_NORM, inplace)[0]


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
    training = training or running_mean is None
    y = quick(
        z, weight, bias, alpha, delta, weight_norm, eps, norm_weight, norm_bias, running_mean, running_var, norm_eps,
        training, momentum, residual, activation, inplace,
    )  # fmt: skip
    if y is not None:
        return y
    vectors = Vectors(weight, bias, alpha, delta, weight_norm)
    check('batch_norm_gate', z, vectors, residual, activation, (running_mean, running_var, norm_weight, norm_bias))
    norm = BatchNorm(norm_weight, norm_bias, running_mean, running_var, norm_eps, training)
    if training:
        norm = norm._replace(mean=None, var=None)
        if z.numel() == z.shape[1] > 0:
            raise ValueError(
                f'batch_norm_gate: Expected more than 1 value per channel when training, got {tuple(z.shape)}'
            )
    y, batch = gate(z, vectors, eps, residual, activation == 'relu', norm, inplace)
    if training and running_mean is not None and running_var is not None and batch is not None and z.numel():
        count = z.numel() / z.shape[1]
        batch_mean, batch_var = in_type(batch, running_mean.dtype)
        running_mean.lerp_(batch_mean, momentum)
        running_var.mul_(1 - momentum).add_(batch_var, alpha=momentum * count / (count - 1))
    return y


def check(
    function: str,
    z: Tensor,
    vectors: Vectors,
    residual: Tensor | None,
    activation: str | None,
    of_norm: tuple[Tensor | None, ...] = (),
) -> None:
    """Refuse wrong arguments of the public functions.

    Args:
        function: Its name.
        z: The map.
        vectors: The gate's.
        residual: What is added.
        activation: What comes last.
        of_norm: The batch norm's running mean and variance, weight and bias.

    Raises:
        TypeError, ValueError: As the functions say.
    """
    shape, size, device = z.shape, vectors.alpha.shape, z.device
    if (
        len(shape) == 4
        and z.is_floating_point()
        and len(size) == 1
        and size[0]
        and shape[1] % size[0] == 0
        and _are_vectors((vectors.weight, vectors.bias, vectors.alpha, vectors.delta), size, device)
        and _are_vectors(of_norm, shape[1:2], device)
        and (residual is None or (residual.shape == shape and residual.device == device))
        and activation in ACTIVATIONS
        and vectors.weight_norm in WEIGHT_NORMS
        and (vectors.weight is None) == (vectors.bias is None)
        and (not of_norm or (of_norm[0] is None) == (of_norm[1] is None))
    ):
        return
    _explain(function, z, vectors, residual, activation, of_norm)


def _are_vectors(vectors: Iterable[Tensor | None], shape: tuple[int, ...], device: torch.device) -> bool:
    """Tell whether all, None aside, are of that shape and on that device."""
    for vector in vectors:  # noqa: SIM110 - all() and a generator take twice as long
        if vector is not None and (vector.shape != shape or vector.device != device):
            return False
    return True


def _explain(
    function: str,
    z: Tensor,
    vectors: Vectors,
    residual: Tensor | None,
    activation: str | None,
    of_norm: tuple[Tensor | None, ...],
) -> None:
    """Say what is wrong; maps without channels come here too, and nothing is."""
    name = 'z' if function == 'batch_norm_gate' else 'x'
    last = ('scale', 'shift') if function == 'norm_gate' else ('alpha', 'delta')
    if vectors.weight_norm not in WEIGHT_NORMS:
        raise ValueError(
            f'{function}: weight_norm must be one of {", ".join(WEIGHT_NORMS)}, got {vectors.weight_norm!r}'
        )
    if (vectors.weight is None) != (vectors.bias is None):
        raise ValueError(f'{function}: weight and bias go together, got one of them alone')
    if of_norm and (of_norm[0] is None) != (of_norm[1] is None):
        raise ValueError(f'{function}: running_mean and running_var go together, got one of them alone')
    if z.dim() != 4:
        raise ValueError(f'{function}: {name} must be of shape (N, C, H, W), got {tuple(z.shape)}')
    if not z.is_floating_point():
        raise TypeError(f'{function}: {name} must be of a floating-point type, got {z.dtype}')
    channels = z.shape[1]
    given = [(n, v) for n, v in zip(('weight', 'bias', *last), vectors[:4]) if v is not None]
    first = given[0][1].shape[:1]
    for argument, vector in given:
        if vector.device != z.device:
            raise ValueError(
                f'{function}: {argument} is on {vector.device}, the map on {z.device}; they must be on one device'
            )
        size = len(vector) if vector.dim() == 1 else 0
        if vector.dim() != 1 or vector.shape != first or (channels % size if size else channels):
            raise ValueError(
                f'{function}: {argument} must be of shape (C,) = ({channels},) as the map has {channels} channels, or '
                f'(C / G,) for G groups, all of one shape; got {tuple(vector.shape)}'
            )
    names = 'running_mean', 'running_var', 'norm_weight', 'norm_bias'
    for argument, statistic in zip(names, of_norm):
        if statistic is not None and not _are_vectors((statistic,), z.shape[1:2], z.device):
            raise ValueError(
                f'{function}: {argument} must be of shape (C,) = ({channels},) and on {z.device}, '
                f'got {tuple(statistic.shape)} on {statistic.device}'
            )
    if residual is not None and (residual.shape != z.shape or residual.device != z.device):
        raise ValueError(
            f'{function}: residual must be of the shape of {name}, {tuple(z.shape)}, and on {z.device}, '
            f'got {tuple(residual.shape)} on {residual.device}'
        )
    if activation not in ACTIVATIONS:
        raise ValueError(f"{function}: activation must be 'relu' or None, got {activation!r}")
