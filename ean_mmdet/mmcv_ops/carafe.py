"""CARAFE (Wang et al. 2019): upsampling with a kernel of its own for each place.

Shapes: features (N, C, h, w), masks (N, group_size · kernel_size², h · scale, w · scale), output (N, C, h · scale, …).
"""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor


def taps(
    padded: Tensor, masks: Tensor, kernel_size: int, group_size: int, scale: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """For each place of the kernel the features below it (N, G, C/G, h, 1, w, 1) and its mask (N, G, 1, h, s, w, s).

    One at a time, as all together are kernel_size² times the features. Both are views.
    """
    n, c, height, width = padded.shape
    h, w = height - kernel_size + 1, width - kernel_size + 1
    padded = padded.view(n, group_size, c // group_size, height, 1, width, 1)
    masks = masks.view(n, group_size, kernel_size, kernel_size, h, scale, w, scale)
    for i in range(kernel_size):
        for j in range(kernel_size):
            yield padded[:, :, :, i : i + h, :, j : j + w], masks[:, :, None, i, j]


def pad(features: Tensor, kernel_size: int) -> Tensor:
    """Pad a feature map by half the kernel."""
    return F.pad(features, (kernel_size // 2,) * 4)


def carafe_naive_forward(
    features: Tensor, masks: Tensor, output: Tensor, *, kernel_size: int, group_size: int, scale_factor: int
) -> None:
    """Fill ``output``, which is zero."""
    n, c, h, w = features.shape
    total = output.view(n, group_size, c // group_size, h, scale_factor, w, scale_factor)
    for below, mask in taps(pad(features, kernel_size), masks.contiguous(), kernel_size, group_size, scale_factor):
        total.addcmul_(below, mask)


def carafe_naive_backward(
    grad_output: Tensor,
    features: Tensor,
    masks: Tensor,
    grad_features: Tensor,
    grad_masks: Tensor,
    *,
    kernel_size: int,
    group_size: int,
    scale_factor: int,
) -> None:
    """Fill both gradients."""
    n, c, h, w = features.shape
    size = (kernel_size, group_size, scale_factor)
    padded = pad(features, kernel_size)
    grad_padded, grad_taps = torch.zeros_like(padded), torch.empty_like(masks, memory_format=torch.contiguous_format)
    grad = grad_output.reshape(n, group_size, c // group_size, h, scale_factor, w, scale_factor)
    for (below, mask), (grad_below, grad_mask) in zip(
        taps(padded, masks.contiguous(), *size), taps(grad_padded, grad_taps, *size)
    ):
        grad_below.add_((grad * mask).sum((4, 6), keepdim=True))
        grad_mask.copy_((grad * below).sum(2, keepdim=True))
    margin = kernel_size // 2
    grad_features.copy_(grad_padded[:, :, margin : margin + h, margin : margin + w])
    grad_masks.copy_(grad_taps)


def carafe_forward(
    features: Tensor,
    masks: Tensor,
    kept_features: Tensor,
    kept_output: Tensor,
    kept_masks: Tensor,
    output: Tensor,
    *,
    kernel_size: int,
    group_size: int,
    scale_factor: int,
) -> None:
    """Fill ``output``, and ``kept_features``, which the backward pass gets instead of the features."""
    kept_features.copy_(features)
    carafe_naive_forward(
        features, masks, output, kernel_size=kernel_size, group_size=group_size, scale_factor=scale_factor
    )


def carafe_backward(
    grad_output: Tensor,
    kept_features: Tensor,
    masks: Tensor,
    kept_grad_output: Tensor,
    kept_grad_features_hs: Tensor,
    kept_grad_features: Tensor,
    kept_grad_masks: Tensor,
    grad_features: Tensor,
    grad_masks: Tensor,
    *,
    kernel_size: int,
    group_size: int,
    scale_factor: int,
) -> None:
    """Fill both gradients; the other buffers stay as they are."""
    size = dict(kernel_size=kernel_size, group_size=group_size, scale_factor=scale_factor)
    carafe_naive_backward(grad_output, kept_features, masks, grad_features, grad_masks, **size)
