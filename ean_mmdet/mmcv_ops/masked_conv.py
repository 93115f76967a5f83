"""The two halves of a convolution at masked places only (guided anchoring, Wang et al. 2019)."""

import torch.nn.functional as F
from torch import Tensor


def masked_im2col_forward(
    input: Tensor, rows: Tensor, columns: Tensor, output: Tensor, kernel_h: int, kernel_w: int, pad_h: int, pad_w: int
) -> None:
    """Fill ``output`` (C · kernel_h · kernel_w, M): what the kernel covers at M places of ``input`` (1, C, H, W)."""
    padded = F.pad(input[0], (pad_w, kernel_w, pad_h, kernel_h))
    windows = padded.unfold(1, kernel_h, 1).unfold(2, kernel_w, 1)[:, rows, columns]  # (C, M, kernel_h, kernel_w)
    output.copy_(windows.permute(0, 2, 3, 1).reshape(output.shape))


def masked_col2im_forward(
    values: Tensor, rows: Tensor, columns: Tensor, output: Tensor, height: int, width: int, channels: int
) -> None:
    """Put ``values`` (channels, M) into ``output`` (1, channels, height, width)."""
    output[0, :, rows, columns] = values.to(output.dtype)  # autocast makes them float16
