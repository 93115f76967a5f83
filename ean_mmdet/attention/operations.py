"""Operations of pooling, by the rules of thop: an addition an input and a division an output.

The modules average with tensor operations, which no counter sees; the papers' code does it with pooling layers, which
the papers' figures have counted.
"""

from torch import Tensor


def global_pool(x: Tensor) -> int:
    """Of the mean of each channel of (N, C, H, W)."""
    batch, channels, height, width = x.shape
    return batch * channels * (height * width + 1)


def strip_pools(x: Tensor) -> int:
    """Of the means of each row and of each column of (N, C, H, W)."""
    batch, channels, height, width = x.shape
    return batch * channels * (height * (width + 1) + width * (height + 1))
