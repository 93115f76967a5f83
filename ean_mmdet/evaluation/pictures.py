"""The report's pictures, as data URLs that a page holds in itself."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence

import cv2
import numpy as np
import torch
from matplotlib.figure import Figure
from mmdet.structures import DetDataSample
from mmdet.visualization import DetLocalVisualizer
from mmengine.structures import InstanceData

from ..palette import COLOURS
from .detections import Detections
from .matching import Matches, curves


def figure_url(figure: Figure) -> str:
    """A figure as SVG."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format='svg')
    return 'data:image/svg+xml;base64,' + base64.b64encode(buffer.getvalue()).decode()


def image_url(image: np.ndarray, width: int = 640) -> str:
    """An image (H, W, 3), RGB, as JPEG, no wider than ``width``."""
    if image.shape[1] > width:
        image = cv2.resize(image, (width, round(image.shape[0] * width / image.shape[1])), interpolation=cv2.INTER_AREA)
    _, data = cv2.imencode('.jpg', cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 85])
    return 'data:image/jpeg;base64,' + base64.b64encode(data.tobytes()).decode()


def precision_figure(matches: Matches) -> Figure:
    """Precision against recall at an overlap of 0.5, of the classes with the most objects."""
    figure = Figure(figsize=(5.6, 4.2), layout='constrained')
    axes = figure.subplots()
    truth, precision = matches.detections.truth, curves(matches)[0]
    for colour, label in zip(COLOURS, np.argsort(-truth.positives, kind='stable').tolist()):
        if truth.positives[label]:
            axes.plot(np.linspace(0, 1, 101), precision[:, label], color=colour, label=truth.classes[label])
    axes.set(xlabel='recall', ylabel='precision', xlim=(0, 1), ylim=(0, 1.02))
    axes.grid(alpha=0.3)
    if axes.lines:
        axes.legend(fontsize=8)
    return figure


def confusion_figure(matrix: np.ndarray, names: Sequence[str]) -> Figure:
    """A confusion matrix, each row in shares of its sum; numbers where there is room for them."""
    size = len(matrix)
    side = max(3.6, min(0.35 * size + 1.6, 14))
    figure = Figure(figsize=(side + 0.8, side), layout='constrained')
    axes = figure.subplots()
    shares = matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
    axes.imshow(shares, cmap='Blues', vmin=0, vmax=1)
    axes.set_xticks(
        range(size), names, rotation=60 if size > 4 else 0, ha='right' if size > 4 else 'center', fontsize=8
    )
    axes.set_yticks(range(size), names, fontsize=8)
    axes.set(xlabel='taken for', ylabel='in truth')
    if size <= 25:
        for (row, column), count in np.ndenumerate(matrix):
            if count:
                colour = 'white' if shares[row, column] > 0.6 else 'black'
                axes.text(column, row, count, ha='center', va='center', fontsize=8, color=colour)
    return figure


def bars(values: dict[str, float], label: str) -> Figure:
    """Horizontal bars, the first on top."""
    figure = Figure(figsize=(5.6, 0.42 * len(values) + 0.8), layout='constrained')
    axes = figure.subplots()
    axes.barh(list(values), list(values.values()), color=COLOURS[0])
    axes.invert_yaxis()
    for number, value in enumerate(values.values()):
        axes.text(max(value, 0), number, f' {value:.3f}', va='center', fontsize=8)
    axes.margins(x=0.15)
    axes.set_xlabel(label)
    axes.spines[['top', 'right']].set_visible(False)
    return figure


def side_by_side(pixels: np.ndarray, detections: Detections, number: int, score: float) -> np.ndarray:
    """Ground truth (left) beside the detections of an image (right) that are at least ``score`` sure."""
    found, true = detections.of_image(number)
    classes, truth = detections.truth.classes, detections.truth
    palette = [tuple(bytes.fromhex(COLOURS[label % len(COLOURS)][1:])) for label in range(len(classes))]
    visualizer = DetLocalVisualizer()
    visualizer.dataset_meta = dict(classes=classes, palette=palette)
    sample = DetDataSample(
        gt_instances=_instances(pixels, truth.boxes[true], truth.labels[true]),
        pred_instances=_instances(
            pixels, detections.boxes[found], detections.labels[found], scores=detections.scores[found]
        ),
    )
    visualizer.add_datasample('', pixels, sample, pred_score_thr=score)
    return visualizer.get_image()


def _instances(pixels: np.ndarray, boxes: np.ndarray, labels: np.ndarray, **more: np.ndarray) -> InstanceData:
    corners = np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], 1)
    inside = np.clip(corners, 0, np.tile(pixels.shape[1::-1], 2))  # else the picture is made smaller
    columns = dict(bboxes=inside, labels=labels, **more)
    return InstanceData(**{name: torch.from_numpy(column) for name, column in columns.items()})
