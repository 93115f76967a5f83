"""``ean_mmdet::batch_norm_gate``, the one PyTorch operator behind every gate: its autograd, fake and real kernels.

The formulas, forward and backward, are in ``README.md`` beside this file. Scale and shift come from EAN's four vectors
by :mod:`.fold`, inside the operator: on a small map, one function for autograd takes longer to call than to compute.

Whoever watches operators sees this one: compilers, exporters, ``torch.jit.trace``, modes. Where nobody does,
:func:`gate` calls the implementation itself, as the dispatcher's way to Python takes longer than a small map; and on a
CPU with compiled kernels :func:`quick` calls their operators, which look at the arguments themselves.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import register_flop_formula

from . import backends, norm_gate_cpp, norm_gate_eager
from .backends import backend
from .batch_norm import BatchNorm
from .dtypes import arithmetic_type, in_one_type, in_type, memory_format, ready
from .fold import Vectors

ACTIVATIONS = (None, 'relu')
PLAIN = (Tensor, torch.nn.Parameter)


def quick(
    z: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    alpha: Tensor,
    delta: Tensor,
    weight_norm: str,
    eps: float,
    norm_weight: Tensor | None,
    norm_bias: Tensor | None,
    norm_mean: Tensor | None,
    norm_var: Tensor | None,
    norm_eps: float,
    training: bool,
    momentum: float,
    residual: Tensor | None,
    activation: str | None,
    inplace: bool,
) -> Tensor | None:
    """Gate ``z`` by the compiled kernels, where all is as they take it; the arguments haven't been looked at.

    In one frame and without named tuples: between two convolutions each line of Python takes as long as five in a loop.

    Args:
        z: The feature map.
        weight: As all up to ``eps`` one of EAN's, see :class:`.Vectors`.
        bias: See there.
        alpha: See there.
        delta: See there.
        weight_norm: See there.
        eps: Added to each plane's variance and to the norm of γ.
        norm_weight: As all up to ``training`` the batch norm's, see :class:`.BatchNorm`.
        norm_bias: See there.
        norm_mean: The running mean; in training it gets its share of the batch's.
        norm_var: The running variance, likewise.
        norm_eps: See there.
        training: See there.
        momentum: The batch's share.
        residual: Added to the gated map, or None.
        activation: ``'relu'`` or None.
        inplace: Whether the result may be written over ``z``.

    Returns:
        The result; None where something is wrong or other than they take it.
    """
    if (
        torch.compiler.is_dynamo_compiling()
        or _watched(z)
        or torch._C._are_functorch_transforms_active()
        or activation not in ACTIVATIONS
        or backends.FORCED not in (None, 'cpp')
        or norm_gate_cpp.missing() is not None
        or not z.is_cpu
    ):
        return None
    code = norm_gate_cpp.CODES.get(weight_norm, -1)
    relu = activation is not None
    if torch.is_grad_enabled():
        return _Quick.apply(
            z, weight, bias, alpha, delta, weight_norm, eps, residual, relu, norm_weight, norm_bias, norm_mean,
            norm_var, norm_eps, training, momentum, code,
        )  # fmt: skip
    inplace = inplace and (not z.is_inference() or torch.is_inference_mode_enabled())
    y, _, _ = norm_gate_cpp.operators()[0](
        z, weight, bias, alpha, delta, code, eps, norm_weight, norm_bias, norm_mean, norm_var, norm_eps, training,
        momentum, residual, relu, inplace, False,
    )  # fmt: skip
    if y is z and not z.is_inference():
        torch.autograd.graph.increment_version(z)  # which compiled kernels don't
    return y


def gate(
    z: Tensor, vectors: Vectors, eps: float, residual: Tensor | None, relu: bool, norm: BatchNorm, inplace: bool
) -> tuple[Tensor, Tensor | None]:
    """Gate ``z``, of any floating-point type as all the others; write over it where that is allowed and possible.

    Returns:
        The result, and the batch's mean and variance, shape (2, C), where ``norm`` is in training.
    """
    if residual is not None and residual.dtype != z.dtype:
        z, residual = in_one_type(z, residual)
    dtype = arithmetic_type(z)
    vectors, norm = ready(vectors, dtype), ready(norm, dtype)
    if torch.compiler.is_compiling() or _watched(z) or not z.numel():
        if _for_compiled_kernels(z, norm):
            weight, bias, alpha, delta, weight_norm = vectors
            y = torch.ops.ean_mmdet.cpp_gate_inference.default(
                z, weight, bias, alpha, delta, norm_gate_cpp.CODES[weight_norm], eps, *norm[:5], residual, relu
            )
            return y, None
        if torch.onnx.is_in_onnx_export():  # by whatever exporter, which knows PyTorch's own operators alone
            return norm_gate_eager.forward(z, vectors, eps, residual, relu, norm)[0], None
        y, _, batch = _gate(z, *vectors, eps, residual, relu, *norm)
        return y, batch
    if torch._C._are_functorch_transforms_active():  # autograd's functions know nothing of torch.func
        y, _, batch = norm_gate_eager.forward(z, vectors, eps, residual, relu, norm)
        return y, batch if batch is None else batch.detach()
    if torch.is_grad_enabled():
        y, _, batch = _Gate.apply(z, *vectors, eps, residual, relu, *norm)
        return y, batch
    given, (z, residual) = z, _laid_out(z, z, residual)
    kernels = backend(z)
    if inplace and not norm.training and kernels.IN_PLACE and given is z and _may_overwrite(z, residual):
        kernels.forward(z, vectors, eps, residual, relu, norm, out=z)
        if not z.is_inference():
            torch.autograd.graph.increment_version(z)  # which compiled kernels don't
        return z, None
    y, _, batch = kernels.forward(z, vectors, eps, residual, relu, norm)
    return y, batch


def _for_compiled_kernels(z: Tensor, norm: BatchNorm) -> bool:
    """Tell whether torch.compile may put the compiled kernels' own operator into its graph, which has no gradient."""
    return bool(
        torch.compiler.is_dynamo_compiling()
        and norm_gate_cpp.serves_compilers()
        and not torch.compiler.is_exporting()
        and not torch.is_grad_enabled()
        and not norm.training
        and z.device.type == 'cpu'
        and z.dtype in backends.TYPES
        and z.numel()
        and backends.FORCED in (None, 'cpp')
    )


def _watched(z: Tensor) -> bool:
    """Tell whether something sees operators: fake tensors, modes such as FLOP counters, torch.jit.trace.

    PyTorch has no public function that tells of modes.
    """
    return bool(type(z) not in PLAIN or torch._C._len_torch_dispatch_stack() or torch.jit.is_tracing())


def _laid_out(z: Tensor, *maps: Tensor | None) -> list[Any]:
    """Return all maps in the layout of ``z``."""
    layout = memory_format(z)
    return [t if t is None else t.contiguous(memory_format=layout) for t in maps]


def _may_overwrite(z: Tensor, residual: Tensor | None) -> bool:
    return (not z.is_inference() or torch.is_inference_mode_enabled()) and (
        residual is None or residual.untyped_storage().data_ptr() != z.untyped_storage().data_ptr()
    )


def _forward(z, weight, bias, alpha, delta, weight_norm, eps, residual, relu, *norm):
    """Gate a map that isn't empty, with None for the batch's moments where there are none."""
    z, residual = _laid_out(z, z, residual)
    vectors = Vectors(weight, bias, alpha, delta, weight_norm)
    return backend(z).forward(z, vectors, eps, residual, relu, BatchNorm(*norm))


def _backward(grad, z, y, moments, wants_residual, weight, bias, alpha, delta, weight_norm, eps, *norm):
    """Return the gradients of a map that isn't empty, with None for those that aren't."""
    grad, z, y = _laid_out(z, grad, z, y)
    vectors = Vectors(weight, bias, alpha, delta, weight_norm)
    dresidual = torch.empty_like(z) if wants_residual else None
    dz, dvectors, dnorm = backend(z).backward(grad, z, y, moments, vectors, eps, dresidual, BatchNorm(*norm))
    return dz, *dvectors, dnorm, dresidual


def _save(ctx, inputs, output):
    """Keep what the gradient needs of the operator's arguments and results."""
    z, weight, bias, alpha, delta, weight_norm, eps, _, relu, norm_weight, norm_bias, mean, var, norm_eps, training = (
        inputs
    )
    _, moments, batch = output
    if training:
        mean, var = batch.unbind()
    # The output costs no memory in a network: the next convolution keeps it too.
    kept = output[0] if relu else None
    ctx.save_for_backward(z, kept, moments, weight, bias, alpha, delta, norm_weight, norm_bias, mean, var)
    ctx.constants = weight_norm, eps, relu, norm_eps, training
    ctx.mark_non_differentiable(*(t for t in (moments, batch) if t is not None))
    ctx.set_materialize_grads(False)


def _gradients(ctx, grad, *_):
    """Return the gradients of the operator's 15 arguments."""
    if grad is None:
        return (None,) * 15
    z, y, moments, weight, bias, alpha, delta, norm_weight, norm_bias, mean, var = ctx.saved_tensors
    weight_norm, eps, relu, norm_eps, training = ctx.constants
    wanted = ctx.needs_input_grad
    if moments is None:  # which quick's kernels take again from small planes
        moments = norm_gate_eager.moments_of(in_type(z, alpha.dtype), (2, 3))
    operator = torch.is_grad_enabled() or _watched(z) or not z.numel()
    dz, *dvectors, dnorm, dresidual = (_gate_backward if operator else _backward)(
        grad, z, y, moments, relu and wanted[7], weight, bias, alpha, delta, weight_norm, eps, norm_weight, norm_bias,
        mean, var, norm_eps, training,
    )  # fmt: skip
    if not relu:  # without a ReLU the residual's gradient is the output's
        dresidual = grad
    dnorm = dnorm.unbind() if wanted[9] or wanted[10] else (None, None)
    gradients = dz, *dvectors, None, None, dresidual, None, *dnorm, None, None, None, None
    return tuple([gradient if wants else None for gradient, wants in zip(gradients, wanted)])


class _Gate(torch.autograd.Function):
    """The operator's autograd without the dispatcher's way to it."""

    @staticmethod
    def forward(ctx, *arguments):
        z, *vectors, eps, residual, relu = arguments[:9]
        z, residual = _laid_out(z, z, residual)
        output = backend(z).forward(z, Vectors(*vectors), eps, residual, relu, BatchNorm(*arguments[9:]))
        _save(ctx, arguments, output)
        return output

    backward = staticmethod(_gradients)


class _Quick(torch.autograd.Function):
    """Autograd of what the compiled kernels took as it was given, in few calls; None where they didn't take it."""

    @staticmethod
    def forward(
        ctx, z, weight, bias, alpha, delta, weight_norm, eps, residual, relu, norm_weight, norm_bias, mean, var,
        norm_eps, training, momentum, code,
    ):  # fmt: skip
        y, moments, batch = norm_gate_cpp.operators()[0](
            z, weight, bias, alpha, delta, code, eps, norm_weight, norm_bias, mean, var, norm_eps, training, momentum,
            residual, relu, False, True,
        )  # fmt: skip
        if y is None:
            return None
        if training:
            mean, var = batch.unbind()
        kept = y if relu else None
        ctx.save_for_backward(z, kept, moments, weight, bias, alpha, delta, norm_weight, norm_bias, mean, var)
        ctx.constants = weight_norm, eps, relu, norm_eps, training
        return y

    @staticmethod
    def backward(ctx, grad):
        if not torch.is_grad_enabled() and not _watched(grad):
            z, y, moments, weight, bias, alpha, delta, norm_weight, norm_bias, mean, var = ctx.saved_tensors
            weight_norm, eps, relu, norm_eps, training = ctx.constants
            wanted = ctx.needs_input_grad[7]
            dresidual = torch.empty_like(z) if relu and wanted else None
            dz, dweight, dbias, dalpha, ddelta, dnorm = norm_gate_cpp.operators()[1](
                z, weight, bias, alpha, delta, norm_gate_cpp.CODES[weight_norm], eps, norm_weight, norm_bias, mean, var,
                norm_eps, training, grad, y, moments, dresidual,
            )  # fmt: skip
            if dz is not None:
                dnorm_weight, dnorm_bias = (None, None) if dnorm is None else dnorm.unbind()
                if norm_weight is None:
                    dnorm_weight = None
                if norm_bias is None:
                    dnorm_bias = None
                return (
                    dz, dweight, dbias, dalpha, ddelta, None, None, grad if wanted and not relu else dresidual, None,
                    dnorm_weight, dnorm_bias, None, None, None, None, None, None,
                )  # fmt: skip
        return (*_gradients(ctx, grad), None, None)


def _refuse(ctx, *_):
    raise NotImplementedError('norm_gate has no second derivatives: its gradient can not be differentiated')


def _contiguous(*arguments):
    """Return the arguments with vectors as implementations take them; :func:`gate` has seen to it itself."""
    return [t.contiguous() if isinstance(t, Tensor) and t.dim() == 1 else t for t in arguments]


def _or_empty(tensor: Tensor | None, like: Tensor) -> Tensor:
    """Return a tensor in any case, as an operator returns the same number of them every time."""
    return like.new_empty(0) if tensor is None else tensor


_VECTORS = 'Tensor? weight, Tensor? bias, Tensor alpha, Tensor delta, str weight_norm, float eps'
_NORM = (
    'Tensor? norm_weight, Tensor? norm_bias, Tensor? norm_mean, Tensor? norm_var, float norm_eps, bool norm_training'
)


@torch.library.custom_op(
    'ean_mmdet::batch_norm_gate',
    mutates_args=(),
    schema=f'(Tensor z, {_VECTORS}, Tensor? residual, bool relu, {_NORM}) '
    '-> (Tensor y, Tensor moments, Tensor batch_moments)',
)
def _gate(z, weight, bias, alpha, *others):
    if not z.numel():
        return _fake_gate(z, weight, bias, alpha, *others)
    y, moments, batch = _forward(z, *_contiguous(weight, bias, alpha, *others))
    return y, moments, _or_empty(batch, alpha)


@_gate.register_fake
def _fake_gate(z, weight, bias, alpha, delta, weight_norm, eps, residual, relu, *norm):
    samples, channels = z.shape[:2]
    return (
        torch.empty_like(z, memory_format=memory_format(z)),
        alpha.new_empty(2, samples, channels),
        alpha.new_empty((2, channels) if BatchNorm(*norm).training else 0),
    )


@torch.library.custom_op(
    'ean_mmdet::batch_norm_gate_backward',
    mutates_args=(),
    schema=f'(Tensor grad, Tensor z, Tensor? y, Tensor moments, bool wants_residual, {_VECTORS}, {_NORM}) '
    '-> (Tensor dz, Tensor dweight, Tensor dbias, Tensor dalpha, Tensor ddelta, Tensor dnorm, Tensor dresidual)',
)
def _gate_backward(grad, z, *others):
    if not z.numel():
        return tuple(t.zero_() for t in _fake_backward(grad, z, *others))
    dz, *rest = _backward(grad, z, *_contiguous(*others))
    return dz, *(_or_empty(t, z if i == 5 else others[1]) for i, t in enumerate(rest))


@_gate_backward.register_fake
def _fake_backward(grad, z, y, moments, wants_residual, weight, bias, alpha, delta, weight_norm, eps, *norm):
    dz = torch.empty_like(z, memory_format=memory_format(z))
    present = BatchNorm(*norm).present
    return (
        dz,
        *(alpha.new_empty(0) if t is None else torch.empty_like(t) for t in (weight, bias, alpha, delta)),
        alpha.new_empty((2, z.shape[1]) if present else 0),
        torch.empty_like(dz) if wants_residual else dz.new_empty(0),
    )


_gate.register_autograd(_gradients, setup_context=_save)
_gate_backward.register_autograd(_refuse)

# PyTorch's FLOP counter counts convolutions and matrix products, of which the gate has none; so its table names it.
_OPERATORS = torch.ops.ean_mmdet.batch_norm_gate, torch.ops.ean_mmdet.batch_norm_gate_backward
register_flop_formula(_OPERATORS)(lambda *_, **__: 0)
