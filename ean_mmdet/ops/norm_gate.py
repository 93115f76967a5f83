"""The normalization-guided gate that every EAN computes, folded into one GroupNorm and one sigmoid.

Li, Li and Wen, 'EAN: An Efficient Attention Module Guided by Normalization for Deep Neural Networks', AAAI 2024,
Eq. 5 to 9 with the learned vectors folded into one scale and one shift a channel.

It is one PyTorch operator, ``ean_mmdet::norm_gate``, with two implementations: :mod:`.norm_gate_triton` on GPUs,
:mod:`.norm_gate_eager` everywhere else. With g the output's gradient, q the mask and M = H · W::

    du = g · x · q · (1 − q)                       the gradient of the mask's argument
    dx = g · q + scale · rstd · (du − Σ du / M − x̂ · Σ (du · x̂) / M)
    dscale = Σ du · x̂        dshift = Σ du
"""

from __future__ import annotations

import os
from functools import cache
from types import ModuleType

import torch
from torch import Tensor
from torch.utils.flop_counter import register_flop_formula

from . import norm_gate_eager
from .dtypes import arithmetic_type, in_one_type, in_type

BACKENDS = ('eager', 'triton')
TRITON_TYPES = (torch.float32, torch.float16, torch.bfloat16)


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
    of ``x``. For the gradient ``x`` is kept, and with residual and ReLU the output too, which the next layer keeps
    anyway. There are no second derivatives.

    The environment variable ``EAN_BACKEND`` forces an implementation, ``eager`` or ``triton``; by default it is Triton
    on GPUs that it supports, for float32, float16 and bfloat16, and eager PyTorch otherwise.

    Args:
        x: Feature map of shape (N, C, H, W) and a floating-point type.
        scale: Factor on the normalized feature, shape (C,), or (C / G,) where G groups of channels share it.
        shift: Summand to the normalized feature, of the shape of ``scale``.
        eps: Added to the variance. Defaults to 1e-5.
        residual: Summand to the gated feature map, of the shape of ``x``. Defaults to None.
        activation: ``'relu'`` or None. Defaults to None.
        inplace: Whether the result may be written over ``x``, as it is under ``torch.no_grad`` and
            ``torch.inference_mode`` unless something is in the way: ``torch.compile``, ``torch.func``, a residual in
            the memory of ``x``, gaps or overlaps in that memory. Defaults to False.

    Returns:
        The gated feature map, of the shape, type and memory format of ``x``; of the wider type where ``residual`` has
        another one.

    Raises:
        ValueError: ``x`` isn't four-dimensional, ``scale``, ``shift`` or ``residual`` has the wrong shape or device,
            or ``activation`` or ``EAN_BACKEND`` is unknown.
        TypeError: ``x`` isn't of a floating-point type.
        RuntimeError: ``EAN_BACKEND`` forces an implementation that can't run here.
    """
    x, residual = in_one_type(x, residual)
    if inplace and _may_overwrite(x, residual):
        scale, shift = _checked(x, scale, shift, residual, activation)
        _call(_norm_gate_, x, scale, shift, eps, residual, activation == 'relu')
        return x
    return norm_gate_with_statistics(x, scale, shift, eps, residual, activation)[0]


def norm_gate_with_statistics(
    x: Tensor, scale: Tensor, shift: Tensor, eps: float, residual: Tensor | None, activation: str | None
) -> tuple[Tensor, Tensor, Tensor]:
    """:func:`norm_gate`, and each plane's mean and 1 / sqrt(var + eps), shape (N, C). ``residual`` has x's type."""
    scale, shift = _checked(x, scale, shift, residual, activation)
    return _call(_norm_gate, x, scale, shift, eps, residual, activation == 'relu')


def norm_gate_gradients(
    grad: Tensor,
    x: Tensor,
    scale: Tensor,
    shift: Tensor,
    mean: Tensor,
    rstd: Tensor,
    y: Tensor | None,
    relu: bool,
    wants_residual: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """Gradients of x, scale, shift and, where wanted, the residual, from what the forward pass kept.

    ``y``, the output, is needed only after a residual and a ReLU. What the ReLU let through is told by its sign;
    without a residual that is the sign of x.
    """
    sign = x if relu and y is None else y
    arguments = grad, x, scale, shift, mean, rstd, sign, relu and wants_residual
    dx, dscale, dshift, dresidual = _call(_norm_gate_backward, *arguments)
    return dx, dscale, dshift, (dresidual if relu else grad) if wants_residual else None


def _checked(
    x: Tensor, scale: Tensor, shift: Tensor, residual: Tensor | None, activation: str | None
) -> tuple[Tensor, Tensor]:
    """Scale and shift in the type of the arithmetic, if all the arguments are what they must be."""
    if x.dim() != 4:
        raise ValueError(f'norm_gate: x must be of shape (N, C, H, W), got {tuple(x.shape)}')
    if not x.is_floating_point():
        raise TypeError(f'norm_gate: x must be of a floating-point type, got {x.dtype}')
    channels = x.shape[1]
    for name, vector in (('scale', scale), ('shift', shift)):
        if vector.dim() != 1 or vector.shape != scale.shape or channels % max(len(vector), 1):
            raise ValueError(
                f'norm_gate: {name} must be of shape (C,) = ({channels},) as x has {channels} channels, or (C / G,) '
                f'for G groups, scale and shift alike; got {tuple(vector.shape)}'
            )
        if vector.device != x.device:
            raise ValueError(f'norm_gate: {name} is on {vector.device}, x on {x.device}; they must be on one device')
    if residual is not None and (residual.shape != x.shape or residual.device != x.device):
        raise ValueError(
            f'norm_gate: residual must be of the shape of x, {tuple(x.shape)}, and on {x.device}, '
            f'got {tuple(residual.shape)} on {residual.device}'
        )
    if activation not in (None, 'relu'):
        raise ValueError(f"norm_gate: activation must be 'relu' or None, got {activation!r}")
    dtype = arithmetic_type(x)
    return in_type(scale, dtype), in_type(shift, dtype)


def _backend(x: Tensor) -> ModuleType:
    """The implementation for ``x``: the one place that chooses."""
    forced = os.environ.get('EAN_BACKEND')
    if forced not in (None, *BACKENDS):
        raise ValueError(f'EAN_BACKEND must be one of {", ".join(BACKENDS)}, or unset, got {forced!r}')
    if forced == 'eager' or (forced is None and not x.is_cuda):
        return norm_gate_eager
    obstacle = _triton_obstacle(x)
    if obstacle is None:
        return _triton()
    if forced == 'triton':
        raise RuntimeError(f'EAN_BACKEND=triton can not run here: {obstacle}')
    return norm_gate_eager


@cache
def _triton() -> ModuleType | None:
    try:
        import triton
    except ImportError:
        return None
    if int(triton.__version__.partition('.')[0]) < 3:
        return None
    from . import norm_gate_triton

    return norm_gate_triton


def _triton_obstacle(x: Tensor) -> str | None:
    """Why Triton's kernels can't take ``x``; None if they can."""
    kernels = _triton()
    if kernels is None:
        return 'no Triton 3 is installed'
    if x.dtype not in TRITON_TYPES:
        return f'its kernels take {", ".join(map(str, TRITON_TYPES))}, and x is {x.dtype}'
    if kernels.INTERPRETED:
        return None
    if not x.is_cuda:
        return f'x is on {x.device}, and Triton needs a GPU, or TRITON_INTERPRET=1 from the start of the process'
    capability = _capability(x.device)
    if capability < kernels.MIN_CAPABILITY:
        return f'{x.device} has compute capability {capability}, and Triton needs {kernels.MIN_CAPABILITY}'
    return None


@cache
def _capability(device: torch.device) -> tuple[int, int]:
    return torch.cuda.get_device_capability(device)


def _memory_format(x: Tensor) -> torch.memory_format:
    """The layout that ``x`` has or comes nearest to, and that the output gets."""
    return torch.channels_last if 0 < x.stride(1) < x.stride(3) else torch.contiguous_format


def _forward(x, scale, shift, eps, residual, relu):
    if x.numel() == 0:
        return _forward_meta(x, scale, shift, eps, residual, relu)
    layout = _memory_format(x)
    x, residual = (t if t is None else t.contiguous(memory_format=layout) for t in (x, residual))
    return _backend(x).forward(x, scale.contiguous(), shift.contiguous(), eps, residual, relu, layout)


def _forward_(x, scale, shift, eps, residual, relu):
    if x.numel() == 0:
        return
    layout = _memory_format(x)
    if not x.is_contiguous(memory_format=layout):
        raise ValueError(f'norm_gate_: x must be contiguous or channels_last, got strides {x.stride()}')
    residual = residual if residual is None else residual.contiguous(memory_format=layout)
    _backend(x).forward(x, scale.contiguous(), shift.contiguous(), eps, residual, relu, layout, inplace=True)
    if not x.is_inference():
        torch.autograd.graph.increment_version(x)  # which Triton's kernels don't


def _forward_meta(x, scale, shift, eps, residual, relu):
    y = torch.empty_like(x, memory_format=_memory_format(x))
    return y, scale.new_empty(x.shape[:2]), scale.new_empty(x.shape[:2])


def _backward(grad, x, scale, shift, mean, rstd, sign, wants_residual):
    if x.numel() == 0:
        return tuple(t.zero_() for t in _backward_meta(grad, x, scale, shift, mean, rstd, sign, wants_residual))
    layout = _memory_format(x)
    grad, x, sign = (t if t is None else t.contiguous(memory_format=layout) for t in (grad, x, sign))
    dresidual = torch.empty_like(x, memory_format=layout) if wants_residual else None
    scale, shift = scale.contiguous(), shift.contiguous()
    gradients = _backend(x).backward(grad, x, scale, shift, mean, rstd, sign, dresidual, layout)
    return *gradients, dresidual if wants_residual else x.new_empty(0)


def _backward_meta(grad, x, scale, shift, mean, rstd, sign, wants_residual):
    dx = torch.empty_like(x, memory_format=_memory_format(x))
    # An operator returns the same number of tensors every time: the last is empty where nobody asks for it.
    dresidual = torch.empty_like(dx) if wants_residual else dx.new_empty(0)
    return dx, torch.empty_like(scale), torch.empty_like(shift), dresidual


def _below_autograd() -> bool:
    """Whether operators can be called past their autograd kernels: gradients are off, and nothing is traced."""
    return (
        not torch.is_grad_enabled()
        and not torch.compiler.is_compiling()
        and not torch._C._are_functorch_transforms_active()
    )


def _may_overwrite(x: Tensor, residual: Tensor | None) -> bool:
    """Whether :func:`norm_gate` can work in place."""
    return (
        _below_autograd()
        and x.is_contiguous(memory_format=_memory_format(x))
        and (not x.is_inference() or torch.is_inference_mode_enabled())
        and (residual is None or residual.untyped_storage()._cdata != x.untyped_storage()._cdata)
    )


def _call(operator, *arguments):
    """Call an operator, past its autograd kernel where that would cost some µs only to pass it on."""
    if not _below_autograd():
        return operator(*arguments)
    with torch._C._AutoDispatchBelowAutograd():
        return operator(*arguments)


class _NormGate(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, scale, shift, eps, residual, relu):
        with torch._C._AutoDispatchBelowAutograd():
            y, mean, rstd = _norm_gate(x, scale, shift, eps, residual, relu)
        # With a residual and a ReLU y is kept, which costs no memory in a network: the next convolution keeps it too.
        ctx.save_for_backward(x, scale, shift, mean, rstd, y if relu and residual is not None else None)
        ctx.relu = relu
        ctx.mark_non_differentiable(mean, rstd)
        ctx.set_materialize_grads(False)
        return y, mean, rstd

    @staticmethod
    def backward(ctx, grad, *_):
        if grad is None:
            return (None,) * 6
        gradients = norm_gate_gradients(grad, *ctx.saved_tensors, ctx.relu, ctx.needs_input_grad[4])
        dx, dscale, dshift, dresidual = gradients
        return dx, dscale, dshift, None, dresidual, None


class _NormGateBackward(torch.autograd.Function):
    @staticmethod
    def forward(ctx, *arguments):
        with torch._C._AutoDispatchBelowAutograd():
            return _norm_gate_backward(*arguments)

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
_LIBRARY.define(
    'norm_gate(Tensor x, Tensor scale, Tensor shift, float eps, Tensor? residual, bool relu) '
    '-> (Tensor y, Tensor mean, Tensor rstd)',
    tags=(torch.Tag.pt2_compliant_tag,),
)
_LIBRARY.define(
    'norm_gate_(Tensor(a!) x, Tensor scale, Tensor shift, float eps, Tensor? residual, bool relu) -> ()',
    tags=(torch.Tag.pt2_compliant_tag,),
)
_LIBRARY.define(
    'norm_gate_backward(Tensor grad, Tensor x, Tensor scale, Tensor shift, Tensor mean, Tensor rstd, Tensor? sign, '
    'bool wants_residual) -> (Tensor dx, Tensor dscale, Tensor dshift, Tensor dresidual)',
    tags=(torch.Tag.pt2_compliant_tag,),
)
_norm_gate = torch.ops.ean_mmdet.norm_gate.default
_norm_gate_ = torch.ops.ean_mmdet.norm_gate_.default
_norm_gate_backward = torch.ops.ean_mmdet.norm_gate_backward.default
for _name, _kernel, _meta, _autograd in (
    ('norm_gate', _forward, _forward_meta, _differentiable(_NormGate, _norm_gate)),
    ('norm_gate_backward', _backward, _backward_meta, _differentiable(_NormGateBackward, _norm_gate_backward)),
):
    _LIBRARY.impl(_name, _kernel, 'CompositeExplicitAutograd')
    _LIBRARY.impl(_name, _meta, 'Meta')
    _LIBRARY.impl(_name, _autograd, 'Autograd')
# The one that overwrites its input is only called where no gradient is recorded.
_LIBRARY.impl('norm_gate_', _forward_, 'CompositeExplicitAutograd')
_LIBRARY.impl('norm_gate_', lambda *_: None, 'Meta')

# PyTorch's FLOP counter counts convolutions and matrix products, of which the gate has none; so its table names it.
_OPERATORS = (_norm_gate, _norm_gate_, _norm_gate_backward)
register_flop_formula([operator.overloadpacket for operator in _OPERATORS])(lambda *_, **__: 0)
