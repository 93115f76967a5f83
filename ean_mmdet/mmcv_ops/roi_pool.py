"""RoI pooling other than RoIAlign: max (Girshick 2015), deformable (Dai et al. 2017), precise (Jiang et al. 2018).

Shapes: input (N, C, H, W), rois (K, 5) as image, x1, y1, x2, y2 in pixels of the image, output (K, C, height, width).
"""

import torch
from torch import Tensor

from .gradients import gradients
from .roi_align import sample_bins, sample_points


def bins(start: Tensor, size: Tensor, count: int, pixels: int) -> tuple[Tensor, Tensor]:
    """First pixel of each bin and the one after its last, (K, count) each; bins share the pixels that they touch."""
    edges = start[:, None] + size[:, None] / count * torch.arange(count + 1, device=start.device)
    return edges[:, :-1].floor().clamp(0, pixels).long(), edges[:, 1:].ceil().clamp(0, pixels).long()


def roi_pool_forward(
    input: Tensor,
    rois: Tensor,
    output: Tensor,
    argmax: Tensor,
    *,
    pooled_height: int,
    pooled_width: int,
    spatial_scale: float,
) -> None:
    """Fill ``output`` and ``argmax``, the index into the flattened map of the largest value, −1 for an empty bin.

    mmcv doesn't round a RoI to pixels, as torchvision's ``roi_pool`` does.
    """
    height, width = input.shape[2:]
    start = rois[:, 1:3] * spatial_scale
    size = (rois[:, 3:5] + 1) * spatial_scale - start
    top, bottom = bins(start[:, 1], size[:, 1], pooled_height, height)
    left, right = bins(start[:, 0], size[:, 0], pooled_width, width)
    for k, image in enumerate(rois[:, 0].long().tolist()):  # one at a time: a bin may cover the whole map
        rows, columns = (
            first[k, :, None] + torch.arange(max(int((last[k] - first[k]).max()), 1), device=rois.device)
            for first, last in ((top, bottom), (left, right))
        )
        inside = (rows < bottom[k, :, None])[:, None, :, None] & (columns < right[k, :, None])[None, :, None]
        index = rows.clamp(max=height - 1)[:, None, :, None] * width + columns.clamp(max=width - 1)[None, :, None]
        values = input[image].flatten(1)[:, index].masked_fill(~inside, -torch.inf).flatten(3)
        largest, place = values.max(3)
        filled = inside.flatten(2).any(2) & (size[k] > 0).all()
        output[k] = largest.where(filled, 0)
        argmax[k] = index.flatten(2).expand_as(values).gather(3, place[..., None])[..., 0].where(filled, -1)


def roi_pool_backward(
    grad_output: Tensor,
    rois: Tensor,
    argmax: Tensor,
    grad_input: Tensor,
    *,
    pooled_height: int,
    pooled_width: int,
    spatial_scale: float,
) -> None:
    """Add to ``grad_input``, which is zero."""
    _, c, height, width = grad_input.shape
    planes = rois[:, 0].long()[:, None] * c + torch.arange(c, device=rois.device)
    index = argmax + planes[:, :, None, None] * (height * width)
    filled = argmax >= 0
    grad_input.view(-1).index_add_(0, index[filled], grad_output[filled])


def deformed(
    input: Tensor, rois: Tensor, offset: Tensor, height: int, width: int, scale: float, ratio: int, gamma: float
) -> Tensor:
    """Means over bins that are moved by ``offset`` (K, 2, height, width), x and y in parts of the RoI by ``gamma``.

    A RoI without area is zero.
    """
    size = (rois[:, 3:5] - rois[:, 1:3]) * scale
    shift = gamma * size[:, :, None, None] * offset  # x, y
    output = input.new_zeros(len(rois), input.shape[1], height, width)
    for image, chosen, y, x in sample_points(rois, height, width, scale, ratio, aligned=True):
        values = sample_bins(input, image, y + shift[chosen, 1, ..., None], x + shift[chosen, 0, ..., None])
        output = output.index_copy(0, chosen, values.mean(-1))
    return output


def deform_roi_pool_forward(
    input: Tensor,
    rois: Tensor,
    offset: Tensor,
    output: Tensor,
    *,
    pooled_height: int,
    pooled_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    gamma: float,
) -> None:
    """Fill ``output``; ``offset`` (K, 2, height, width) or empty."""
    if not offset.numel():
        offset = input.new_zeros(len(rois), 2, pooled_height, pooled_width)
    size = (pooled_height, pooled_width, spatial_scale, sampling_ratio, gamma)
    output.copy_(deformed(input, rois, offset, *size))


def deform_roi_pool_backward(
    grad_output: Tensor,
    input: Tensor,
    rois: Tensor,
    offset: Tensor,
    grad_input: Tensor,
    grad_offset: Tensor,
    *,
    pooled_height: int,
    pooled_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    gamma: float,
) -> None:
    """Fill ``grad_input``, and ``grad_offset`` where there are offsets."""
    moved = bool(offset.numel())
    if not moved:
        offset = input.new_zeros(len(rois), 2, pooled_height, pooled_width)
    size = (pooled_height, pooled_width, spatial_scale, sampling_ratio, gamma)
    of_input, of_offset = gradients(
        lambda input, offset: deformed(input, rois, offset, *size), (input, offset), grad_output
    )
    grad_input.copy_(of_input)
    if moved:
        grad_offset.copy_(of_offset)


def precise(input: Tensor, rois: Tensor, height: int, width: int, scale: float) -> Tensor:
    """The integral of the bilinear surface over each bin, by its area; zero outside of the map.

    The surface is a sum of hats around the pixels, so that the integral is a product of one over rows and one over
    columns.
    """
    corners = rois[:, 1:] * scale
    bin_size = (corners[:, 2:] - corners[:, :2]).clamp(min=0) / corners.new_tensor([width, height])

    def weights(axis: int, bins: int, pixels: int) -> Tensor:
        edges = corners[:, axis, None] + bin_size[:, axis, None] * torch.arange(bins + 1, device=rois.device)
        distance = (edges[:, :, None] - torch.arange(pixels, device=rois.device)).clamp(-1, 1)
        integral = 0.5 + distance - 0.5 * distance * distance.abs()
        length = bin_size[:, axis, None, None]
        return integral.diff(dim=1) / length.where(length > 0, torch.ones_like(length))

    across, down = weights(0, width, input.shape[3]), weights(1, height, input.shape[2])
    # one RoI at a time: together they would need a copy of the map each
    pooled = [y @ input[image] @ x.T for image, y, x in zip(rois[:, 0].long().tolist(), down, across)]
    return torch.stack(pooled) if pooled else input.new_zeros(0, input.shape[1], height, width)


def prroi_pool_forward(
    features: Tensor, rois: Tensor, output: Tensor, *, pooled_height: int, pooled_width: int, spatial_scale: float
) -> None:
    """Fill ``output``."""
    output.copy_(precise(features, rois, pooled_height, pooled_width, spatial_scale))


def prroi_pool_backward(
    grad_output: Tensor,
    rois: Tensor,
    grad_input: Tensor,
    *,
    pooled_height: int,
    pooled_width: int,
    spatial_scale: float,
) -> None:
    """Fill ``grad_input``."""
    size = (pooled_height, pooled_width, spatial_scale)
    # linear in the features, so that any will do
    grad_input.copy_(gradients(lambda features: precise(features, rois, *size), (grad_input,), grad_output)[0])


def prroi_pool_coor_backward(
    output: Tensor,
    grad_output: Tensor,
    features: Tensor,
    rois: Tensor,
    grad_rois: Tensor,
    *,
    pooled_height: int,
    pooled_width: int,
    spatial_scale: float,
) -> None:
    """Fill ``grad_rois``, that of the image's number zero."""
    size = (pooled_height, pooled_width, spatial_scale)
    grad_rois.copy_(gradients(lambda rois: precise(features, rois, *size), (rois,), grad_output)[0])
