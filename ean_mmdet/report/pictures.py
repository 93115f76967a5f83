"""The report's pictures, as data URLs that a page holds in itself."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence

import cv2
import numpy as np
from matplotlib.figure import Figure

from .matching import match, precision_recall
from .predictions import Detections

COLORS = ('#0072B2', '#D55E00', '#009E73', '#CC79A7', '#E69F00', '#56B4E9', '#F0E442', '#000000')


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


def curves(hits: Sequence[tuple], classes: Sequence[str], most: int = 8) -> Figure:
    """Precision against recall at an overlap of 0.5, of the classes with the most objects."""
    figure = Figure(figsize=(5.6, 4.2), layout='constrained')
    axes = figure.subplots()
    chosen = sorted(range(len(classes)), key=lambda number: -hits[number][2])[:most]
    for color, number in zip(COLORS, chosen):
        if hits[number][2] and len(hits[number][0]):
            precision, recall, _ = precision_recall(*hits[number])
            axes.plot(np.append(0, recall), np.append(precision[:1], precision), color=color, label=classes[number])
    axes.set(xlabel='recall', ylabel='precision', xlim=(0, 1), ylim=(0, 1.02))
    axes.grid(alpha=0.3)
    if axes.lines:
        axes.legend(fontsize=8)
    return figure


def confusion_figure(matrix: np.ndarray, classes: Sequence[str]) -> Figure:
    """A confusion matrix, each row in shares of its sum; numbers where there is room for them."""
    names, size = [*classes, 'background'], len(matrix)
    side = max(3.6, min(0.35 * size + 1.6, 14))
    figure = Figure(figsize=(side + 0.8, side), layout='constrained')
    axes = figure.subplots()
    shares = matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
    axes.imshow(shares, cmap='Blues', vmin=0, vmax=1)
    axes.set_xticks(
        range(size), names, rotation=60 if size > 4 else 0, ha='right' if size > 4 else 'center', fontsize=8
    )
    axes.set_yticks(range(size), names, fontsize=8)
    axes.set(xlabel='detected as', ylabel='in truth')
    if size <= 25:
        for (row, column), count in np.ndenumerate(matrix):
            if count:
                color = 'white' if shares[row, column] > 0.6 else 'black'
                axes.text(column, row, count, ha='center', va='center', fontsize=8, color=color)
    return figure


def bars(values: dict[str, float], label: str) -> Figure:
    """Horizontal bars, the first on top."""
    figure = Figure(figsize=(5.6, 0.42 * len(values) + 0.8), layout='constrained')
    axes = figure.subplots()
    axes.barh(list(values), list(values.values()), color=COLORS[0])
    axes.invert_yaxis()
    for number, value in enumerate(values.values()):
        axes.text(max(value, 0), number, f' {value:.3f}', va='center', fontsize=8)
    axes.margins(x=0.15)
    axes.set_xlabel(label)
    axes.spines[['top', 'right']].set_visible(False)
    return figure


def mistakes(image: Detections, score: float) -> tuple[int, int, int]:
    """Objects found, false detections and objects missed, among detections of at least ``score``."""
    chosen = image.scores >= score
    found, _ = match(
        Detections(
            image.path, image.boxes[chosen], image.scores[chosen], image.labels[chosen], image.true_boxes,
            image.true_labels, image.ignored,
        )
    )  # fmt: skip
    right = int((found >= 0).sum())
    return right, int((found == -1).sum()), int((~image.ignored).sum()) - right


def side_by_side(pixels: np.ndarray, image: Detections, classes: Sequence[str], score: float) -> np.ndarray:
    """Ground truth (left) beside detections (right)."""
    left, right = pixels.copy(), pixels.copy()
    for box, label in zip(image.true_boxes, image.true_labels):
        _draw(left, box, label, classes[label])
    for box, label, value in zip(image.boxes, image.labels, image.scores):
        if value >= score:
            _draw(right, box, label, f'{classes[label]} {value:.2f}')
    return np.concatenate([left, np.full_like(left[:, :4], 255), right], 1)


def _draw(pixels: np.ndarray, box: np.ndarray, label: int, text: str) -> None:
    color = tuple(int(COLORS[label % len(COLORS)][i : i + 2], 16) for i in (1, 3, 5))
    scale = max(pixels.shape[:2]) / 640
    x1, y1, x2, y2 = (round(float(value)) for value in box)
    cv2.rectangle(pixels, (x1, y1), (x2, y2), color, max(1, round(2 * scale)))
    size = 0.45 * max(scale, 0.5)
    cv2.putText(
        pixels, text, (x1 + 2, max(y1 - 3, round(14 * scale))), cv2.FONT_HERSHEY_SIMPLEX, size, color, 1, cv2.LINE_AA
    )
