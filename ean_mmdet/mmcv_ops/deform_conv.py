"""Deformable convolution (Dai et al. 2017) and its modulated form (Zhu et al. 2019), torchvision's operators.

Shapes: input (N, C, H, W), weight (O, C / group, kH, kW), offset (N, 2 · deformable_group · kH · kW, H', W') as pairs
of y and x in pixels, mask (N, deformable_group · kH · kW, H', W'), output (N, O, H', W').
"""

import torch
import torchvision  # noqa: F401, has the operators
from torch import Tensor

FAR = 1e4  # pixels: beyond any map, and a number in float16


def finite(offset: Tensor) -> Tensor:
    """Offsets that aren't numbers, as of a run that diverges, point outside: torchvision would read anywhere."""
    return offset.nan_to_num(nan=FAR, posinf=FAR, neginf=-FAR)


def forward(input: Tensor, weight: Tensor, offset: Tensor, *rest: Tensor | int) -> Tensor:
    """Compute torchvision's deformable convolution."""
    return torch.ops.torchvision.deform_conv2d(input, weight, finite(offset), *rest)


def laid_out(tensor: Tensor, channels: int, size: torch.Size) -> Tensor:
    """The start of each sample of ``tensor`` as (N, channels, *size), a view.

    mmcv reads offsets and masks of another size than the output so, and MMDetection's DyHead has such.
    """
    return tensor.flatten(1)[:, : channels * size.numel()].view(len(tensor), channels, *size)


def plain(input: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """The mask and the bias that torchvision wants where there are none."""
    return input.new_zeros(len(input), 1), weight.new_zeros(len(weight))


def backward(
    grad_output: Tensor,
    input: Tensor,
    weight: Tensor,
    offset: Tensor,
    mask: Tensor,
    bias: Tensor,
    stride_h: int,
    stride_w: int,
    pad_h: int,
    pad_w: int,
    dilation_h: int,
    dilation_w: int,
    group: int,
    deformable_group: int,
    use_mask: bool,
) -> tuple[Tensor, ...]:
    """Gradients of input, weight, offset, mask and bias.

    A sample at exactly −1 is outside of the map for mmcv and has no gradient; torchvision takes the derivative towards
    the map. Offsets begin as zeros, so that with padding such samples are common.
    """
    offset = finite(offset)
    size = (stride_h, stride_w, pad_h, pad_w, dilation_h, dilation_w, group, deformable_group, use_mask)
    found = torch.ops.torchvision._deform_conv2d_backward(grad_output, input, weight, offset, mask, bias, *size)
    kernel_h, kernel_w = weight.shape[2:]
    shape = (len(input), deformable_group, kernel_h, kernel_w, 2, *grad_output.shape[2:])

    def steps(count: int, step: int, start: int, axis: int) -> Tensor:
        return (torch.arange(count, device=offset.device) * step + start).view(
            [-1 if i == axis else 1 for i in range(6)]
        )

    offset = offset.reshape(shape)
    y = offset[:, :, :, :, 0] + steps(kernel_h, dilation_h, -pad_h, 2) + steps(shape[5], stride_h, 0, 4)
    x = offset[:, :, :, :, 1] + steps(kernel_w, dilation_w, -pad_w, 3) + steps(shape[6], stride_w, 0, 5)
    found[2].view(shape).masked_fill_(((y == -1) | (x == -1))[:, :, :, :, None], 0)
    return found


def deform_conv_forward(
    input: Tensor,
    weight: Tensor,
    offset: Tensor,
    output: Tensor,
    columns: Tensor,
    ones: Tensor,
    *,
    kW: int,
    kH: int,
    dW: int,
    dH: int,
    padW: int,
    padH: int,
    dilationW: int,
    dilationH: int,
    group: int,
    deformable_group: int,
    im2col_step: int,
) -> None:
    """Fill ``output``."""
    size = (dH, dW, padH, padW, dilationH, dilationW, group, deformable_group)
    output.copy_(forward(input, weight, offset, *plain(input, weight), *size, False))


def deform_conv_backward_input(
    input: Tensor,
    offset: Tensor,
    grad_output: Tensor,
    grad_input: Tensor,
    grad_offset: Tensor,
    weight: Tensor,
    columns: Tensor,
    *,
    kW: int,
    kH: int,
    dW: int,
    dH: int,
    padW: int,
    padH: int,
    dilationW: int,
    dilationH: int,
    group: int,
    deformable_group: int,
    im2col_step: int,
) -> None:
    """Fill ``grad_input`` and ``grad_offset``; leave the weight's gradient, which comes with them, in ``columns``."""
    size = (dH, dW, padH, padW, dilationH, dilationW, group, deformable_group)
    of_input, of_weight, of_offset, _, _ = backward(
        grad_output, input, weight, offset, *plain(input, weight), *size, False
    )
    grad_input.copy_(of_input)
    grad_offset.copy_(of_offset)
    columns.resize_(of_weight.shape).copy_(of_weight)


def deform_conv_backward_parameters(
    input: Tensor,
    offset: Tensor,
    grad_output: Tensor,
    grad_weight: Tensor,
    columns: Tensor,
    ones: Tensor,
    *,
    kW: int,
    kH: int,
    dW: int,
    dH: int,
    padW: int,
    padH: int,
    dilationW: int,
    dilationH: int,
    group: int,
    deformable_group: int,
    scale: float,
    im2col_step: int,
) -> None:
    """Add to ``grad_weight``: what is in ``columns`` where :func:`deform_conv_backward_input` came before."""
    of_weight = columns
    if columns.shape != grad_weight.shape:
        size = (dH, dW, padH, padW, dilationH, dilationW, group, deformable_group)
        weight = torch.zeros_like(grad_weight)  # its gradient doesn't depend on it
        of_weight = backward(grad_output, input, weight, offset, *plain(input, weight), *size, False)[1]
    grad_weight.add_(of_weight, alpha=scale)


def modulated_deform_conv_forward(
    input: Tensor,
    weight: Tensor,
    bias: Tensor,
    ones: Tensor,
    offset: Tensor,
    mask: Tensor,
    output: Tensor,
    columns: Tensor,
    *,
    kernel_h: int,
    kernel_w: int,
    stride_h: int,
    stride_w: int,
    pad_h: int,
    pad_w: int,
    dilation_h: int,
    dilation_w: int,
    group: int,
    deformable_group: int,
    with_bias: bool,
) -> None:
    """Fill ``output``."""
    size = (stride_h, stride_w, pad_h, pad_w, dilation_h, dilation_w, group, deformable_group)
    bias = bias if with_bias else plain(input, weight)[1]
    taps = deformable_group * kernel_h * kernel_w
    offset, mask = (laid_out(t, count * taps, output.shape[2:]) for t, count in ((offset, 2), (mask, 1)))
    output.copy_(forward(input, weight, offset, mask, bias, *size, True))


def modulated_deform_conv_backward(
    input: Tensor,
    weight: Tensor,
    bias: Tensor,
    ones: Tensor,
    offset: Tensor,
    mask: Tensor,
    columns: Tensor,
    grad_input: Tensor,
    grad_weight: Tensor,
    grad_bias: Tensor,
    grad_offset: Tensor,
    grad_mask: Tensor,
    grad_output: Tensor,
    *,
    kernel_h: int,
    kernel_w: int,
    stride_h: int,
    stride_w: int,
    pad_h: int,
    pad_w: int,
    dilation_h: int,
    dilation_w: int,
    group: int,
    deformable_group: int,
    with_bias: bool,
) -> None:
    """Fill the five gradients, which are zero."""
    size = (stride_h, stride_w, pad_h, pad_w, dilation_h, dilation_w, group, deformable_group)
    bias = bias if with_bias else plain(input, weight)[1]
    taps, shape = deformable_group * kernel_h * kernel_w, grad_output.shape[2:]
    offset, mask = laid_out(offset, 2 * taps, shape), laid_out(mask, taps, shape)
    of_input, of_weight, of_offset, of_mask, of_bias = backward(
        grad_output, input, weight, offset, mask, bias, *size, True
    )
    grad_input.copy_(of_input)
    grad_weight.copy_(of_weight)
    laid_out(grad_offset, 2 * taps, shape).copy_(of_offset)
    laid_out(grad_mask, taps, shape).copy_(of_mask)
    if with_bias:
        grad_bias.copy_(of_bias)
