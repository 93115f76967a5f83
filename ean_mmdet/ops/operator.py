"""``ean_mmdet::batch_norm_gate``, the one PyTorch operator behind every gate: its autograd, fake and real kernels.

With z the input, m and w its plane's mean and variance (a plane is one sample's one channel, M = H · W), s = weight /
sqrt(var + norm_eps) and x = s (z − mean) + bias its batch norm (x = z where there is none), r = 1 / sqrt(s² w + eps),
and q the sigmoid of scale · s · r · (z − m) + shift, the result is y = x q, plus the residual, through the ReLU.

With g the gradient in front of the ReLU (which is the residual's too) and du = g q (1 − q) x, four sums a plane tell
all::

    A1 = Σ g q        A2 = Σ g q (z − m)        B1 = Σ du        B2 = Σ du (z − m)

    dshift = Σ B1     dscale = Σ s r B2
    dbias  = Σ A1     dweight = Σ (A2 + scale r³ eps B2 + (m − mean) A1) / sqrt(var + norm_eps)
    dz = s (g q + scale r (du − B1 / M − s² r² (z − m) B2 / M))
         − s (dbias + (z − mean) dweight / sqrt(var + norm_eps)) / (N M)      where the statistics are the batch's

Scale and shift come from EAN's four vectors by :mod:`.fold`, inside the operator: on a small map, one function for
autograd takes longer to call than to compute.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.utils.flop_counter import register_flop_formula

from .backends import backend
from .batch_norm import BatchNorm
from .fold import Vectors

PLAIN = (Tensor, torch.nn.Parameter)


def gate(
    z: Tensor, vectors: Vectors, eps: float, residual: Tensor | None, relu: bool, norm: BatchNorm, inplace: bool
) -> tuple[Tensor, ...]:
    """Call the operator, or the one that writes over ``z`` where it may and can.

    Returns:
        The result; the planes' means and variances, shape (2, N, C); and the batch's, shape (2, C), empty unless
        ``norm`` is in training. Of the in-place operator the result alone.
    """
    arguments = z, *vectors, eps, residual, relu, *norm
    if torch.compiler.is_compiling() or torch._C._get_tracing_state() is not None:
        return _gate(*arguments)
    if torch.is_grad_enabled():
        # What the operator's kernel for autograd does, without the dispatcher's way to it.
        return _Gate.apply(*arguments)
    if inplace and not norm.training and _may_overwrite(z, residual):
        _call(_gate_, _forward_, z, arguments)
        return (z,)
    return _call(_gate, _forward, z, arguments)


def _memory_format(z: Tensor) -> torch.memory_format:
    """The layout that ``z`` has or comes nearest to, and that the output gets."""
    return torch.channels_last if 0 < z.stride(1) < z.stride(3) else torch.contiguous_format


def _call(operator, kernel, z: Tensor, arguments: tuple):
    """Call an operator below autograd.

    Where nothing watches operators (fake tensors, FLOP counters and other modes, the profiler, torch.jit.trace), its
    kernel is called straight away: the dispatcher's way to a kernel in Python takes as long as the gate of a small map.
    """
    watched = (
        type(z) not in PLAIN
        or torch._C._len_torch_dispatch_stack()
        or torch.autograd._profiler_enabled()
        or torch._C._get_tracing_state() is not None
    )
    if not watched:
        return kernel(*arguments)
    with torch._C._AutoDispatchBelowAutograd():
        return operator(*arguments)


def _may_overwrite(z: Tensor, residual: Tensor | None) -> bool:
    return (
        z.is_contiguous(memory_format=_memory_format(z))
        and (not z.is_inference() or torch.is_inference_mode_enabled())
        and (residual is None or residual.untyped_storage()._cdata != z.untyped_storage()._cdata)
        and backend(z).IN_PLACE
    )


def _contiguous(values: tuple) -> Iterator:
    return (value.contiguous() if isinstance(value, Tensor) else value for value in values)


def _vectors(*arguments) -> Vectors:
    return Vectors(*_contiguous(arguments))


def _norm(arguments: tuple) -> BatchNorm:
    return BatchNorm(*_contiguous(arguments))


def _or_empty(tensor: Tensor | None, like: Tensor) -> Tensor:
    """An operator returns the same number of tensors every time."""
    return like.new_empty(0) if tensor is None else tensor


def _forward(z, weight, bias, alpha, delta, weight_norm, eps, residual, relu, *norm):
    vectors = _vectors(weight, bias, alpha, delta, weight_norm)
    if z.numel() == 0:
        return _forward_meta(z, *vectors, eps, residual, relu, *norm)
    layout, norm = _memory_format(z), _norm(norm)
    z, residual = (t if t is None else t.contiguous(memory_format=layout) for t in (z, residual))
    y, moments, batch = backend(z).forward(z, vectors, eps, residual, relu, norm)
    return y, moments, _or_empty(batch, alpha)


def _forward_(z, weight, bias, alpha, delta, weight_norm, eps, residual, relu, *norm):
    if z.numel() == 0:
        return
    layout, norm = _memory_format(z), _norm(norm)
    if norm.training or not z.is_contiguous(memory_format=layout):
        raise ValueError(
            'batch_norm_gate_: z must be contiguous or channels_last, and the batch norm not in training; got strides '
            f'{z.stride()}, training={norm.training}'
        )
    residual = residual if residual is None else residual.contiguous(memory_format=layout)
    vectors, kernels = _vectors(weight, bias, alpha, delta, weight_norm), backend(z)
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
    vectors = _vectors(weight, bias, alpha, delta, weight_norm)
    if z.numel() == 0:
        outs = _backward_meta(grad, z, y, moments, wants_residual, *vectors, eps, *norm)
        return tuple(t.zero_() for t in outs)
    layout, norm = _memory_format(z), _norm(norm)
    grad, z, y = (t if t is None else t.contiguous(memory_format=layout) for t in (grad, z, y))
    dresidual = torch.empty_like(z, memory_format=layout) if wants_residual else None
    dz, dvectors, dnorm = backend(z).backward(grad, z, y, moments, vectors, eps, dresidual, norm)
    return dz, *(_or_empty(t, alpha) for t in (*dvectors, dnorm)), _or_empty(dresidual, z)


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
    @staticmethod
    def forward(ctx, z, weight, bias, alpha, delta, weight_norm, eps, residual, relu, *norm):
        arguments = z, weight, bias, alpha, delta, weight_norm, eps, residual, relu, *norm
        results = y, moments, batch = _call(_gate, _forward, z, arguments)
        norm_weight, norm_bias, mean, var, norm_eps, training = norm
        # y costs no memory in a network: the next convolution keeps it too.
        kept = y if relu else None
        ctx.save_for_backward(
            z, kept, moments, weight, bias, alpha, delta, norm_weight, norm_bias, mean, var, batch if training else None
        )
        ctx.constants = weight_norm, eps, norm_eps, training
        ctx.mark_non_differentiable(moments, batch)
        ctx.set_materialize_grads(False)
        return results

    @staticmethod
    def backward(ctx, grad, *_):
        if grad is None:
            return (None,) * 15
        z, y, moments, *vectors, norm_weight, norm_bias, mean, var, batch = ctx.saved_tensors
        weight_norm, eps, norm_eps, training = ctx.constants
        if training:
            mean, var = batch.unbind()
        # Without a ReLU the residual's gradient is the output's.
        wants_residual = ctx.needs_input_grad[7]
        arguments = (
            grad, z, y, moments, wants_residual and y is not None, *vectors, weight_norm, eps,
            norm_weight, norm_bias, mean, var, norm_eps, training,
        )  # fmt: skip
        if torch.is_grad_enabled():
            gradients = _gate_backward(*arguments)
        else:
            gradients = _call(_gate_backward, _backward, z, arguments)
        dz, *dvectors, dnorm, dresidual = gradients
        if not wants_residual:
            dresidual = None
        elif y is None:
            dresidual = grad
        wanted = ctx.needs_input_grad
        dvectors = (d if wants else None for d, wants in zip(dvectors, wanted[1:5]))
        dnorm_weight, dnorm_bias = (dnorm[i] if wanted[9 + i] else None for i in range(2))
        return dz, *dvectors, None, None, dresidual, None, dnorm_weight, dnorm_bias, None, None, None, None


class _GateBackward(torch.autograd.Function):
    @staticmethod
    def forward(ctx, *arguments):
        return _call(_gate_backward, _backward, arguments[0], arguments)

    @staticmethod
    def backward(ctx, *_):
        raise NotImplementedError('norm_gate has no second derivatives: its gradient can not be differentiated')


def _differentiable(function: type[torch.autograd.Function], operator):
    """The operator's kernel for autograd: through ``function`` where a gradient is wanted, past it elsewhere."""

    def kernel(*arguments):
        if torch.is_grad_enabled() and any(isinstance(a, Tensor) and a.requires_grad for a in arguments):
            return function.apply(*arguments)
        with torch._C._AutoDispatchBelowAutograd():
            return operator(*arguments)

    return kernel


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
    ('batch_norm_gate', _forward, _forward_meta, _differentiable(_Gate, _gate)),
    ('batch_norm_gate_backward', _backward, _backward_meta, _differentiable(_GateBackward, _gate_backward)),
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
