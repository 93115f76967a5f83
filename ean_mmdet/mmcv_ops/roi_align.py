"""RoIAlign (He et al. 2017): torchvision's operator for means, PyTorch for the largest of the samples.

Shapes: input (N, C, H, W), rois (K, 5) as image, x1, y1, x2, y2 in pixels of the image, output (K, C, height, width).
"""

from collections.abc import Iterator

import torch
import torchvision  # noqa: F401, has the operators
from torch import Tensor

from .bilinear import corners, sample

mean = torch.ops.torchvision.roi_align
mean_backward = torch.ops.torchvision._roi_align_backward


def sample_points(
    rois: Tensor, height: int, width: int, scale: float, ratio: int, aligned: bool
) -> Iterator[tuple[int, Tensor, Tensor, Tensor]]:
    """Points at which RoIs are sampled.

    Args:
        rois: (K, 5).
        height: Bins of a RoI in a column.
        width: Bins in a row.
        scale: Size of the map over that of the image.
        ratio: Samples of a bin in each direction; 0 for as many as pixels.
        aligned: Pixels have their centre at integers, so that half of one is subtracted.

    Yields:
        For each set of k RoIs of one image with the same number s of samples a bin: the image, the indices of the RoIs
        (k,), rows and columns (k, height, width, s). RoIs without area have no samples and are in no set.
    """
    start = rois[:, 1:3] * scale - 0.5 * aligned
    size = rois[:, 3:5] * scale - 0.5 * aligned - start
    if not aligned:
        size = size.clamp(min=1)
    bin_size = size / size.new_tensor([width, height])
    counts = bin_size.ceil().clamp(min=0).long() if ratio <= 0 else torch.full_like(bin_size, ratio, dtype=torch.long)
    keys = torch.cat([rois[:, :1].long(), counts], dim=1)
    for image, across, down in keys.unique(dim=0).tolist():
        if not across * down:
            continue
        chosen = (keys == keys.new_tensor([image, across, down])).all(1).nonzero()[:, 0]
        x0, y0 = start[chosen, :, None].unbind(1)
        bin_width, bin_height = bin_size[chosen, :, None].unbind(1)
        x = x0 + bin_width * (torch.arange(width * across, device=rois.device) + 0.5) / across
        y = y0 + bin_height * (torch.arange(height * down, device=rois.device) + 0.5) / down
        # (k, height, width, down, across): the samples of a bin beside each other
        y = y.view(-1, height, 1, down, 1).expand(-1, -1, width, -1, across)
        x = x.view(-1, 1, width, 1, across).expand(-1, height, -1, down, -1)
        yield image, chosen, y.flatten(3), x.flatten(3)


def sample_bins(maps: Tensor, image: int, y: Tensor, x: Tensor) -> Tensor:
    """The samples (k, C, height, width, s) of one image at the points (k, height, width, s)."""
    return sample(maps[image : image + 1], y.reshape(1, -1), x.reshape(1, -1))[0].unflatten(1, y.shape).movedim(0, 1)


def roi_align_forward(
    input: Tensor,
    rois: Tensor,
    output: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    *,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    """Fill ``output``; for ``pool_mode`` 0, the largest, also where it is, ``argmax_y`` and ``argmax_x``."""
    if pool_mode == 1:
        output.copy_(mean(input, rois, spatial_scale, aligned_height, aligned_width, sampling_ratio, aligned))
        return
    size = (aligned_height, aligned_width, spatial_scale, sampling_ratio, aligned)
    for image, chosen, y, x in sample_points(rois, *size):
        largest, place = sample_bins(input, image, y, x).max(-1)
        output[chosen] = largest
        for target, position in ((argmax_y, y), (argmax_x, x)):
            position = position[:, None].expand(*place.shape, -1)
            target[chosen] = position.gather(-1, place[..., None])[..., 0].to(target.dtype)


def roi_align_backward(
    grad_output: Tensor,
    rois: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    grad_input: Tensor,
    *,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    """Fill ``grad_input``, which is zero."""
    n, c, height, width = grad_input.shape
    if pool_mode == 1:
        size = (spatial_scale, aligned_height, aligned_width, n, c, height, width, sampling_ratio, aligned)
        grad_input.copy_(mean_backward(grad_output, rois, *size))
        return
    indices, weights = corners(argmax_y, argmax_x, height, width)  # (4, K, C, aligned_height, aligned_width)
    planes = rois[:, 0].long()[:, None] * c + torch.arange(c, device=rois.device)
    for index, weight in zip(indices, weights):
        index = index + planes[:, :, None, None] * (height * width)
        grad_input.view(-1).index_add_(0, index.flatten(), (grad_output * weight).flatten())
