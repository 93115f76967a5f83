"""Class activation maps: where a classifier's or a detector's score comes from, by the ``grad-cam`` package.

Selvaraju et al., 'Grad-CAM', ICCV 2017; Draelos and Carin, 'HiResCAM', 2020; Muhammad and Yeasin, 'Eigen-CAM', IJCNN
2020.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from ..errors import InputError, did_you_mean, near_names
from ..files import write_atomically

# By name: the class of the package, and whether it wants a target to take gradients of.
METHODS = {
    'gradcam': ('GradCAM', True),
    'gradcam++': ('GradCAMPlusPlus', True),
    'hirescam': ('HiResCAM', True),
    'layercam': ('LayerCAM', True),
    'xgradcam': ('XGradCAM', True),
    'eigengradcam': ('EigenGradCAM', True),
    'eigencam': ('EigenCAM', False),
}


@dataclass(frozen=True)
class Activation:
    """An activation map.

    Attributes:
        heat: (H, W) of the model's input without its padding, 0 to 1.
        boxes: The targets' boxes, (K, 4) in shares of the image's sides, x1, y1, x2, y2; none for classifiers.
        label: What the target is, ``'RBC 0.93'``.
    """

    heat: np.ndarray
    boxes: np.ndarray
    label: str


class Scores(nn.Module):
    """Images to scores, (N, M): a detector's detections after suppression, or a classifier's classes.

    ``boxes`` and ``labels`` are those of the last images.

    Args:
        model: An image classifier, or a detector that :func:`ean_mmdet.deploy.networks.to_graph` takes.
        layers: The layers whose maps are looked at.
    """

    def __init__(self, model: nn.Module, layers: Sequence[nn.Module]) -> None:
        super().__init__()
        from ..deploy.networks import to_graph

        self.graph: Any = to_graph(model)
        self.sizes: Tensor | None = None
        self.boxes = self.labels = None
        self.seen: list[Any] = []
        self._hooks = [
            layer.register_forward_hook(lambda _, args, output: self.seen.append(output)) for layer in layers
        ]

    def forward(self, images: Tensor) -> Tensor:
        """(N, 3, H, W) → (N, M)."""
        self.seen.clear()
        if len(self.graph.inputs) == 1:
            scores = self.graph(images)
        else:
            self.boxes, scores, self.labels = self.graph(images, self.sizes)
        # a level that the target doesn't come from has a gradient of zero, and not none
        return scores + 0 * sum(output.mean() for output in self.seen)

    def release(self) -> None:
        """Take the hooks off the layers."""
        for hook in self._hooks:
            hook.remove()


def default_layers(model: nn.Module) -> list[str]:
    """Names of the layers to look at: a classifier's last stage, or all that a detector's neck gets.

    Raises:
        InputError: The backbone is of a kind that isn't known here.
    """
    backbone: Any = model.backbone
    lists = (getattr(backbone, attribute, None) for attribute in ('res_layers', 'stages', 'layers'))
    names = next(filter(None, lists), None)
    if not names or not all(isinstance(name, str) for name in names):
        raise InputError(f'{type(backbone).__name__}: which layer to look at is not known; give one with --layer')
    found = [f'backbone.{names[index]}' for index in backbone.out_indices]
    if not _detects(model):
        return found[-1:]
    # SSDLite on MobileNeXt reads inside of a stage's first block
    inside = [f'backbone.{names[index]}.0.expand' for index in getattr(backbone, 'expansion_indices', ())]
    return [*inside, *found]


def _detects(model: nn.Module) -> bool:
    return hasattr(model, 'bbox_head') or hasattr(model, 'rpn_head')


def find_layers(model: nn.Module, names: Sequence[str]) -> list[nn.Module]:
    """Layers by name.

    Raises:
        InputError: There is none of a name; the message has similar ones.
    """
    layers = dict(model.named_modules())
    for name in names:
        if name not in layers:
            raise InputError(f'the model has no layer {name!r}; near are {", ".join(near_names(name, layers, 4, 0.3))}')
    return [layers[name] for name in names]


def check_target(target: str, classes: Sequence[str]) -> None:
    """See that a target is one that :func:`choose` knows.

    Raises:
        InputError: It is neither ``'best'`` nor a number nor one of the classes.
    """
    if target != 'best' and not target.isdigit() and target not in classes:
        hint = did_you_mean(target, classes) or f'; the classes are {", ".join(classes[:10])}'
        raise InputError(f'--target {target!r} is neither best, nor a number, nor a class{hint}')


def choose(scores: Tensor, labels: Tensor | None, classes: Sequence[str], target: str, top: int) -> list[int]:
    """Scores that an activation map is of.

    Args:
        scores: (M,) of an image.
        labels: (M,), a detector's; None for a classifier, whose scores are its classes'.
        classes: Names of the classes.
        target: ``'best'``, a number in the order of scores (from 0 on), or the name of a class.
        top: How many of the best.

    Raises:
        InputError: There is no such target.
    """
    order = scores.argsort(descending=True, stable=True).tolist()
    order = [index for index in order if scores[index] > 0]
    if labels is not None:
        order = [index for index in order if labels[index] >= 0]
    if not order:
        raise InputError('nothing was detected, so there is nothing to explain; take --method eigencam')
    if target == 'best':
        return order[:top]
    if target.isdigit():
        if int(target) >= len(order):
            raise InputError(f'--target {target}: there are {len(order)} detections, 0 to {len(order) - 1}')
        return [order[int(target)]]
    check_target(target, classes)
    number = list(classes).index(target)
    if labels is None:
        return [number]
    found = [index for index in order if labels[index] == number][:top]
    if not found:
        raise InputError(f'no {target} was detected')
    return found


def activation(
    model: nn.Module,
    data: dict,
    classes: Sequence[str],
    method: str | None = None,
    layers: Sequence[str] | None = None,
    target: str = 'best',
    top: int = 1,
) -> Activation:
    """The activation map of an image.

    Args:
        model: A classifier of MMPretrain, or a detector of MMDetection: SSD, RetinaNet, YOLOX or Faster R-CNN. All its
            parameters require gradients afterwards.
        data: Of :func:`ean_mmdet.datasets.pipeline.preprocess`.
        classes: Names of the classes.
        method: One of :data:`METHODS`. Defaults to None: ``'gradcam'`` for classifiers, ``'hirescam'`` for detectors,
            as Grad-CAM averages gradients over the whole image, where a detection's are near its box.
        layers: Names of layers; their maps are averaged. Defaults to None, :func:`default_layers`.
        target: See :func:`choose`. Defaults to ``'best'``.
        top: How many of the best. Defaults to 1.

    Raises:
        InputError: The package is missing, a name is unknown, or there is no such target.
    """
    try:
        import pytorch_grad_cam
    except ImportError as error:
        raise InputError(
            f'activation maps need grad-cam ({error}): pip install scikit-learn; pip install --no-deps grad-cam ttach '
            f'(its opencv-python-headless collides with opencv-python)'
        ) from error
    name, by_target = METHODS[method or ('hirescam' if _detects(model) else 'gradcam')]
    model.eval().requires_grad_(True)
    network = Scores(model, chosen := find_layers(model, layers or default_layers(model)))
    images, (sample,) = data['inputs'], data['data_samples']
    height, width = sample.img_shape[:2]
    network.sizes = torch.tensor([[height, width]], dtype=torch.float32, device=images.device)
    with contextlib.ExitStack() as stack:
        stack.callback(network.release)
        with torch.no_grad():
            scores = network(images)[0]
        labels = None if network.labels is None else network.labels[0]
        index = choose(scores, labels, classes, target, top) if by_target or scores.max() > 0 else []
        cam = getattr(pytorch_grad_cam, name)(model=network, target_layers=chosen)
        stack.callback(cam.activations_and_grads.release)
        (heat,) = cam(input_tensor=images, targets=[lambda row: row[index].sum()])
    heat = np.nan_to_num(heat[:height, :width])
    boxes = np.zeros((0, 4))
    if labels is not None and index:
        boxes = network.boxes[0, index].detach().cpu().numpy() / [width, height, width, height]
    numbers = index if labels is None else labels[index].tolist()
    label = ', '.join(f'{classes[n]} {scores[i]:.2f}' for n, i in list(zip(numbers, index))[:3])
    return Activation(heat, boxes, label + (', …' if len(index) > 3 else ''))


def overlay(image: np.ndarray, entry: Activation) -> np.ndarray:
    """An image (H, W, 3), RGB, under its activation map, with the targets' boxes."""
    height, width = image.shape[:2]
    heat = cv2.resize(entry.heat.astype(np.float32), (width, height))
    colors = cv2.applyColorMap((heat * 255).astype(np.uint8), cv2.COLORMAP_JET)[..., ::-1]
    shown = (0.5 * image + 0.5 * colors).astype(np.uint8)
    thickness = max(2, round(max(height, width) / 320))
    for x1, y1, x2, y2 in (entry.boxes * [width, height, width, height]).round().astype(int).tolist():
        cv2.rectangle(shown, (x1, y1), (x2, y2), (255, 255, 255), thickness)
    return shown


def write_picture(path: Path, image: np.ndarray, activations: dict[str, Activation], title: str) -> None:
    """The image and its activation maps side by side.

    Args:
        path: The picture.
        image: (H, W, 3), RGB.
        activations: By what is written above them.
        title: The image's name.

    Raises:
        InputError: The picture can't be written.
    """
    from matplotlib.figure import Figure

    height, width = image.shape[:2]
    side = 3.4
    figure = Figure(figsize=(side * (1 + len(activations)), side * height / width + 0.7), layout='constrained', dpi=110)
    axes = figure.subplots(1, 1 + len(activations))
    axes[0].imshow(image)
    axes[0].set_title(title, fontsize=9)
    for axis, (name, entry) in zip(axes[1:], activations.items()):
        axis.imshow(overlay(image, entry))
        axis.set_title(f'{name}: {entry.label}' if entry.label else name, fontsize=9)
    for axis in axes:
        axis.axis('off')
    write_atomically(path, lambda partial: figure.savefig(partial, format=path.suffix[1:]))
