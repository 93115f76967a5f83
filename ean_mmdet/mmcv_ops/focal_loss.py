"""Focal loss (Lin et al. 2017), of sigmoids and of softmaxes, with its gradient.

``target`` (N,) is the class of each sample: for sigmoids C is the background, for softmaxes −1 is ignored. ``weight``
is one for each class, or empty.
"""

import torch
from torch import Tensor


def is_target(scores: Tensor, target: Tensor) -> Tensor:
    """Mark the class of each sample: (N, classes), all False for the background."""
    return target[:, None] == torch.arange(scores.shape[1], device=scores.device)


def class_weight(weight: Tensor, target: Tensor) -> Tensor:
    """The weight of each sample's class, that of the background 1."""
    if not weight.numel():
        return weight.new_ones(len(target))
    known = (target >= 0) & (target < len(weight))
    return weight[target.where(known, 0)].where(known, 1)


def logarithm(probability: Tensor) -> Tensor:
    """Finite at 0, as in mmcv."""
    return probability.clamp(min=torch.finfo(torch.float32).tiny).log()


def sigmoid_focal_loss_forward(
    input: Tensor, target: Tensor, weight: Tensor, output: Tensor, gamma: float, alpha: float
) -> None:
    """Fill ``output`` (N, C) from the logits ``input`` (N, C)."""
    p = input.sigmoid()
    positive = alpha * (1 - p) ** gamma * logarithm(p)
    negative = (1 - alpha) * p**gamma * logarithm(1 - p)
    output.copy_(-torch.where(is_target(input, target), positive, negative))
    if weight.numel():
        output.mul_(class_weight(weight, target)[:, None])


def sigmoid_focal_loss_backward(
    input: Tensor, target: Tensor, weight: Tensor, grad_input: Tensor, gamma: float, alpha: float
) -> None:
    """Fill ``grad_input`` (N, C), the derivative of each loss by its logit."""
    p = input.sigmoid()
    positive = alpha * (1 - p) ** gamma * (1 - p - gamma * p * logarithm(p))
    negative = (1 - alpha) * p**gamma * (gamma * (1 - p) * logarithm(1 - p) - p)
    grad_input.copy_(-torch.where(is_target(input, target), positive, negative))
    if weight.numel():
        grad_input.mul_(class_weight(weight, target)[:, None])


def of_target(softmax: Tensor, target: Tensor) -> Tensor:
    """Select the probability of each sample's class: (N,)."""
    return softmax.gather(1, target.clamp(min=0)[:, None])[:, 0]


def softmax_focal_loss_forward(
    softmax: Tensor, target: Tensor, weight: Tensor, output: Tensor, gamma: float, alpha: float
) -> None:
    """Fill ``output`` (N,) from probabilities ``softmax`` (N, C)."""
    p = of_target(softmax, target)
    loss = -alpha * (1 - p) ** gamma * logarithm(p) * class_weight(weight, target)
    output.copy_(loss.where(target >= 0, 0))


def softmax_focal_loss_backward(
    softmax: Tensor, target: Tensor, weight: Tensor, buffer: Tensor, grad_input: Tensor, gamma: float, alpha: float
) -> None:
    """Fill ``grad_input`` (N, C), the derivative of each sample's loss by its logits."""
    p = of_target(softmax, target)
    factor = alpha * (gamma * (1 - p) ** (gamma - 1) * p * logarithm(p) - (1 - p) ** gamma)
    factor = (factor * class_weight(weight, target)).where(target >= 0, 0)
    grad_input.copy_(factor[:, None] * (is_target(softmax, target).to(softmax) - softmax))
