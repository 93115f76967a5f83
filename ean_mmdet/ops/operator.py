"""``ean_mmdet::batch_norm_gate``, the one PyTorch operator behind every gate: its autograd, fake and real kernels.

The formulas, forward and backward, are in ``README.md`` beside this file. Scale and shift come from EAN's four vectors
by :mod:`.fold`, inside the operator: on a small map, one function for autograd takes longer to call than to compute.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.utils.flop_counter import register_flop_formula

from .backends import backend
from .batch_norm import BatchNorm
from .fold import Vectors

PLAIN = (Tensor, torch.nn.Parameter)


def gate(
    z: Tensor, vectors: Vectors, eps: float, residual: Tensor | None, relu: bool, norm: BatchNorm, inplace: bool
) -> tuple[Tensor, Tensor | None]:
    """Call the operator, or the one that writes over ``z`` where it may and can.

    Returns:
        The result, and the batch's mean and variance, shape (2, C), where ``norm`` is in training.
    """
    if torch.compiler.is_compiling() or torch.jit.is_tracing():
        y, _, batch = _gate(z, *vectors, eps, residual, relu, *norm)
        return y, batch
    if torch.is_grad_enabled():
        # What the operator's kernel for autograd does, without the dispatcher's way to it.
        y, _, batch = _Gate.apply(z, residual, *vectors[:4], *norm[:4], (vectors[4], eps, relu, *norm[4:]))
        return y, batch
    arguments = z, *vectors, eps, residual, relu, *norm
    if inplace and not norm.training and _may_overwrite(z, residual):
        _call(_gate_, _forward_, z, arguments)
        return z, None
    y, _, batch = _call(_gate, _forward, z, arguments)
    return y, batch


def _memory_format(z: Tensor) -> torch.memory_format:
    """The layout that ``z`` has or comes nearest to, and that the output gets."""
    return torch.channels_last if 0 < z.stride(1) < z.stride(3) else torch.contiguous_format


def _call(operator, kernel, z: Tensor, arguments: tuple):
    """Call an operator below autograd.

    Where nothing watches operators (fake tensors, FLOP counters and other modes, the profiler, torch.jit.trace), its
    kernel is called straight away: the dispatcher's way to a kernel in Python takes as long as the gate of a small map.
    """
    if not (
        type(z) not in PLAIN
        or torch._C._len_torch_dispatch_stack()
        or torch.autograd._profiler_enabled()
        or torch.jit.is_tracing()
    ):
        return kernel(*arguments)
    with torch._C._AutoDispatchBelowAutograd():
        return operator(*arguments)


def _may_overwrite(z: Tensor, residual: Tensor | None) -> bool:
    return (
        z.is_contiguous(memory_format=_memory_format(z))
        and (not z.is_inference() or torch.is_inference_mode_enabled())
        and (residual is None or residual.untyped_storage().data_ptr() != z.untyped_storage().data_ptr())
        and backend(z).IN_PLACE
    )


def _prepared(layout: torch.memory_format, maps: tuple, vectors: tuple, norm: tuple) -> tuple[list, Vectors, BatchNorm]:
    """Inputs of an implementation: maps of one layout, and contiguous vectors."""
    return (
        [t if t is None else t.contiguous(memory_format=layout) for t in maps],
        Vectors(*[t if t is None or t.is_contiguous() else t.contiguous() for t in vectors[:4]], *vectors[4:]),
        BatchNorm(*[t if t is None or t.is_contiguous() else t.contiguous() for t in norm[:4]], *norm[4:]),
    )


def _or_empty(tensor: Tensor | None, like: Tensor) -> Tensor:
    """An operator returns the same number of tensors every time."""
    return like.new_empty(0) if tensor is None else tensor


def _forward(z, weight, bias, alpha, delta, weight_norm, eps, residual, relu, *norm):
    """The operator's kernel, with None for the batch's moments where there are none."""
    vectors = weight, bias, alpha, delta, weight_norm
    if z.numel() == 0:
        return _forward_meta(z, *vectors, eps, residual, relu, *norm)
    (z, residual), vectors, norm = _prepared(_memory_format(z), (z, residual), vectors, norm)
    return backend(z).forward(z, vectors, eps, residual, relu, norm)


def _forward_operator(z, weight, bias, alpha, *arguments):
    y, moments, batch = _forward(z, weight, bias, alpha, *arguments)
    return y, moments, _or_empty(batch, alpha)


def _forward_(z, weight, bias, alpha, delta, weight_norm, eps, residual, relu, *norm):
    if z.numel() == 0:
        return
    layout = _memory_format(z)
    (residual,), vectors, norm = _prepared(layout, (residual,), (weight, bias, alpha, delta, weight_norm), norm)
    if norm.training or not z.is_contiguous(memory_format=layout):
        raise ValueError(
            'batch_norm_gate_: z must be contiguous or channels_last, and the batch norm not in training; got strides '
            f'{z.stride()}, training={norm.training}'
        )
    kernels = backend(z)
    if kernels.IN_PLACE:
        kernels.forward(z, vectors, eps, residual, relu, norm, out=z)
        if not z.is_inference():
            torch.autograd.graph.increment_version(z)  # which compiled kernels don't
    else:
        z.copy_(kernels.forward(z, vectors, eps, residual, relu, norm)[0])


def _forward_meta(z, weight, bias, alpha, delta, weight_norm, eps, residual, relu, *norm):
    samples, channels = z.shape[:2]
    return (
        torch.empty_like(z, memory_format=_memory_format(z)),
        alpha.new_empty(2, samples, channels),
        alpha.new_empty((2, channels) if BatchNorm(*norm).training else 0),
    )


def _backward(grad, z, y, moments, wants_residual, weight, bias, alpha, delta, weight_norm, eps, *norm):
    """The operator's kernel, with None for the gradients that aren't."""
    vectors = weight, bias, alpha, delta, weight_norm
    if z.numel() == 0:
        outs = _backward_meta(grad, z, y, moments, wants_residual, *vectors, eps, *norm)
        return tuple(t.zero_() for t in outs)
    layout = _memory_format(z)
    (grad, z, y), vectors, norm = _prepared(layout, (grad, z, y), vectors, norm)
    dresidual = torch.empty_like(z, memory_format=layout) if wants_residual else None
    dz, dvectors, dnorm = backend(z).backward(grad, z, y, moments, vectors, eps, dresidual, norm)
    return dz, *dvectors, dnorm, dresidual


def _backward_operator(grad, z, *arguments):
    dz, *others = _backward(grad, z, *arguments)
    return dz, *(_or_empty(t, z if i == 5 else arguments[1]) for i, t in enumerate(others))


def _backward_meta(grad, z, y, moments, wants_residual, weight, bias, alpha, delta, weight_norm, eps, *norm):
    dz = torch.empty_like(z, memory_format=_memory_format(z))
    present = BatchNorm(*norm).present
    return (
        dz,
        *(alpha.new_empty(0) if t is None else torch.empty_like(t) for t in (weight, bias, alpha, delta)),
        alpha.new_empty((2, z.shape[1]) if present else 0),
        torch.empty_like(dz) if wants_residual else dz.new_empty(0),
    )


class _Gate(torch.autograd.Function):
    """The tensors of the operator, and a tuple of what it takes else: each argument costs time."""

    @staticmethod
    def forward(ctx, z, residual, *rest):
        *vectors, norm_weight, norm_bias, mean, var, ctx.constants = rest
        weight_norm, eps, relu, norm_eps, training = ctx.constants
        results = y, moments, batch = _call(
            _gate, _forward, z,
            (z, *vectors, weight_norm, eps, residual, relu, norm_weight, norm_bias, mean, var, norm_eps, training),
        )  # fmt: skip
        if training:
            mean, var = batch.unbind()
        # y costs no memory in a network: the next convolution keeps it too.
        ctx.save_for_backward(z, y if relu else None, moments, *vectors, norm_weight, norm_bias, mean, var)
        ctx.mark_non_differentiable(*(t for t in results[1:] if t is not None))
        ctx.set_materialize_grads(False)
        return results

    @staticmethod
    def backward(ctx, grad, *_):
        if grad is None:
            return (None,) * 11
        z, y, moments, *vectors, norm_weight, norm_bias, mean, var = ctx.saved_tensors
        weight_norm, eps, relu, norm_eps, training = ctx.constants
        wanted = ctx.needs_input_grad
        arguments = (
            grad, z, y, moments, relu and wanted[1], *vectors, weight_norm, eps, norm_weight, norm_bias, mean, var,
            norm_eps, training,
        )  # fmt: skip
        if torch.is_grad_enabled():
            gradients = _gate_backward(*arguments)
        else:
            gradients = _call(_gate_backward, _backward, z, arguments)
        dz, *dvectors, dnorm, dresidual = gradients
        if not wanted[1]:
            dresidual = None
        elif not relu:  # without a ReLU the residual's gradient is the output's
            dresidual = grad
        dnorm = dnorm.unbind() if wanted[6] or wanted[7] else (None, None)
        tensors = dz, dresidual, *dvectors, *dnorm
        return *(t if wants else None for t, wants in zip(tensors, wanted)), None, None, None


class _GateBackward(torch.autograd.Function):
    @staticmethod
    def forward(ctx, *arguments):
        return _call(_gate_backward, _backward_operator, arguments[0], arguments)

    @staticmethod
    def backward(ctx, *_):
        raise NotImplementedError('norm_gate has no second derivatives: its gradient can not be differentiated')


def _wants_gradient(arguments: tuple) -> bool:
    return torch.is_grad_enabled() and any(isinstance(a, Tensor) and a.requires_grad for a in arguments)


def _forward_autograd(z, weight, bias, alpha, delta, weight_norm, eps, residual, relu, *norm):
    """The operator's kernel for autograd: through the function where a gradient is wanted, past it elsewhere."""
    arguments = z, weight, bias, alpha, delta, weight_norm, eps, residual, relu, *norm
    if _wants_gradient(arguments):
        constants = weight_norm, eps, relu, *norm[4:]
        y, moments, batch = _Gate.apply(z, residual, weight, bias, alpha, delta, *norm[:4], constants)
        return y, moments, _or_empty(batch, alpha)
    with torch._C._AutoDispatchBelowAutograd():
        return _gate(*arguments)


def _backward_autograd(*arguments):
    if _wants_gradient(arguments):
        return _GateBackward.apply(*arguments)
    with torch._C._AutoDispatchBelowAutograd():
        return _gate_backward(*arguments)


# Defined through torch.library.Library rather than custom_op and register_autograd, whose wrappers take three times as
# long a call (45 against 15 µs measured), which counts on small feature maps.
_LIBRARY = torch.library.Library('ean_mmdet', 'FRAGMENT')
_VECTORS = 'Tensor? weight, Tensor? bias, Tensor alpha, Tensor delta, str weight_norm, float eps'
_NORM = (
    'Tensor? norm_weight, Tensor? norm_bias, Tensor? norm_mean, Tensor? norm_var, float norm_eps, bool norm_training'
)
for _schema in (
    f'batch_norm_gate(Tensor z, {_VECTORS}, Tensor? residual, bool relu, {_NORM}) '
    '-> (Tensor y, Tensor moments, Tensor batch_moments)',
    f'batch_norm_gate_(Tensor(a!) z, {_VECTORS}, Tensor? residual, bool relu, {_NORM}) -> ()',
    f'batch_norm_gate_backward(Tensor grad, Tensor z, Tensor? y, Tensor moments, bool wants_residual, {_VECTORS}, '
    f'{_NORM}) -> (Tensor dz, Tensor dweight, Tensor dbias, Tensor dalpha, Tensor ddelta, Tensor dnorm, '
    'Tensor dresidual)',
):
    _LIBRARY.define(_schema, tags=(torch.Tag.pt2_compliant_tag,))
_gate = torch.ops.ean_mmdet.batch_norm_gate.default
_gate_ = torch.ops.ean_mmdet.batch_norm_gate_.default
_gate_backward = torch.ops.ean_mmdet.batch_norm_gate_backward.default
for _name, _kernel, _meta, _autograd in (
    ('batch_norm_gate', _forward_operator, _forward_meta, _forward_autograd),
    ('batch_norm_gate_backward', _backward_operator, _backward_meta, _backward_autograd),
):
    _LIBRARY.impl(_name, _kernel, 'CompositeExplicitAutograd')
    _LIBRARY.impl(_name, _meta, 'Meta')
    _LIBRARY.impl(_name, _autograd, 'Autograd')
# The one that overwrites its input is only called where no gradient is recorded.
_LIBRARY.impl('batch_norm_gate_', _forward_, 'CompositeExplicitAutograd')
_LIBRARY.impl('batch_norm_gate_', lambda *_: None, 'Meta')

# PyTorch's FLOP counter counts convolutions and matrix products, of which the gate has none; so its table names it.
_OPERATORS = (_gate, _gate_, _gate_backward)
register_flop_formula([operator.overloadpacket for operator in _OPERATORS])(lambda *_, **__: 0)
