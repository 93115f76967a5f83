"""The numbers of a config that follow from the data: input size, anchors, batch, schedule, learning rate."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from mmengine.config import Config

from .anchors import Anchors, choose_anchors
from .contents import Contents


@dataclass(frozen=True)
class Detector:
    """Facts of a detector beside its base config.

    Attributes:
        title: Its name for people.
        base: Its base config, below ``configs/`` or of MMDetection's.
        batch: The usual batch of a device, on a CPU and at most.
        rate: The learning rate of a batch of 16, from weights and from scratch.
        weights: The config of MMDetection whose published weights it can start from.
        generator: Where its anchors are in the model.
    """

    title: str
    base: str
    batch: tuple[int, int]
    rate: tuple[float, float]
    weights: str | None = None
    generator: tuple[str, ...] = ()


DETECTORS = {
    'ssdlite': Detector(
        'MobileNeXt SSDLite', 'ssdlite320_mobilenext_{data}.py', (8, 32), (0.002, 0.002),
        generator=('bbox_head', 'anchor_generator'),
    ),
    'faster_rcnn': Detector(
        'Faster R-CNN, ResNet-50', 'faster_rcnn_r50_coco.py', (4, 16), (0.01, 0.002),
        'faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py', ('rpn_head', 'anchor_generator'),
    ),
    'retinanet': Detector(
        'RetinaNet, ResNet-50', 'mmdet::_base_/models/retinanet_r50_fpn.py', (4, 16), (0.01, 0.002),
        'retinanet/retinanet_r50_fpn_1x_coco.py', ('bbox_head', 'anchor_generator'),
    ),
    'yolox': Detector(
        'YOLOX-tiny', 'mmdet::yolox/yolox_tiny_8xb8-300e_coco.py', (8, 32), (0.0025, 0.0025),
        'yolox/yolox_tiny_8xb8-300e_coco.py',
    ),
}  # fmt: skip

SMALLEST = 12  # pixels at the input below which a box is next to nothing
SMALL = 32  # COCO's small objects end here
SSD_SIZES = (320, 512, 640, 768, 1024)
LARGEST = (1333, 800)  # MMDetection's usual size, the long side and the short one
YOLOX_SIZES = (640, 960, 1280)
CROP = {'ssdlite': 512, 'faster_rcnn': 800, 'retinanet': 800}
MANY = 300  # classes
POOR = 0.7  # share of the boxes that anchors overlap
EPOCHS = {'scratch': (40, 24, 200), 'started': (24, 12, 100)}  # at 300 images, least, most
FEWEST = 500  # iterations
SHORT = 10  # passes over the data, in which SSD's crops and expansions are not made up for
RARE = 20  # times as many images of the most frequent class as of the rarest
MOST_REPEATS = 4  # of the schedule where crops show a part of each image


@dataclass
class Choices:
    """The numbers of a config, with their reasons.

    Attributes:
        detector: Of :data:`DETECTORS`.
        input_size: Width and height of the network's input.
        crop: Whether that is a crop of the image, scaled by ``factor``, which is tested whole.
        factor: The scale of images that are cropped.
        fine: Whether SSDLite has a level of stride 8.
        light: Whether SSDLite is trained without SSD's crops and expansions.
        strides: Of SSDLite's levels.
        anchors: None for a detector without.
        batch_size: Images a device.
        iterations: Of the schedule.
        epochs: The same, in passes over the data.
        rate: The learning rate for that batch.
        oversample: The share of images that rare classes are brought towards; None where they aren't.
        most: Detections an image at most; None for the base's.
        reasons: What was chosen, and why.
        warnings: What isn't well whatever is chosen.
    """

    detector: str
    input_size: tuple[int, int]
    crop: bool = False
    factor: float = 1.0
    fine: bool = False
    light: bool = False
    strides: list[int] = field(default_factory=list)
    anchors: Anchors | None = None
    batch_size: int = 8
    iterations: int = 0
    epochs: int = 0
    rate: float = 0.001
    oversample: float | None = None
    most: int | None = None
    reasons: dict[str, str] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)


def choose(
    detector: str,
    base: Config,
    train: Contents,
    classes: tuple[str, ...],
    started: bool,
    batch_size: int | None = None,
    input_size: int | None = None,
    iterations: int | None = None,
) -> Choices:
    """Choose the numbers of a config. The same data gives the same.

    Args:
        detector: Of :data:`DETECTORS`.
        base: Its base config.
        train: The training data.
        classes: The classes.
        started: Whether the detector starts from weights, and so needs a shorter schedule.
        batch_size: Images a device. Defaults to None, the detector's usual on a CPU.
        input_size: Side of the input, or the short side for the two-stage detector and RetinaNet. Defaults to None.
        iterations: Of the schedule. Defaults to None, by the number of images.
    """
    choices = _size(detector, train, input_size)
    choices.batch_size = batch_size or DETECTORS[detector].batch[0]
    _schedule(choices, train, started, iterations)
    _anchors(choices, base, train, choices.light and not started)
    _frequencies(choices, train, classes)
    return choices


def small_side(contents: Contents) -> float:
    """The side of small boxes in pixels: of the classes' medians the one that a tenth of the classes is below."""
    sides = np.sqrt(contents.boxes.prod(1))
    medians = [np.median(sides[contents.labels == label]) for label in np.unique(contents.labels)]
    return float(np.quantile(medians, 0.1, method='lower'))


def _size(detector: str, train: Contents, given: int | None) -> Choices:
    width, height = (float(side) for side in np.median(train.sizes, axis=0))
    small = max(small_side(train), 1.0)
    text = f'the images are {width:.0f} × {height:.0f} (median), their small boxes {small:.0f} pixels'
    if detector in ('ssdlite', 'yolox'):
        choices = _square(detector, width, height, small, given)
    else:
        choices = _keeping_ratio(detector, width, height, small, given)
    if choices.crop:
        choices.factor = min(1.0, 2 * SMALLEST / small)
        side = CROP[detector]
        choices.input_size = (side, side)
        text += (
            f', too small for a detector once the image is scaled down: trained on crops of {side} × {side}'
            + ('' if choices.factor == 1 else f' of the image scaled by {choices.factor:.2f}')
            + ', tested on whole images, which takes memory in proportion'
        )
    else:
        scale = _scale(detector, choices.input_size, width, height)
        text += f', {small * scale:.0f} at this size'
        if small * scale < SMALLEST:
            choices.warnings.append(
                f'boxes of {small:.0f} pixels are {small * scale:.0f} at an input of {choices.input_size[0]} × '
                f'{choices.input_size[1]}, which is next to nothing for {DETECTORS[detector].title}'
                + (': faster_rcnn and retinanet are trained on crops here' if detector == 'yolox' else '')
            )
    choices.reasons['input'] = text
    return choices


def _scale(detector: str, size: tuple[int, int], width: float, height: float) -> float:
    """By how much the network's input is larger than the image, along a side of a box."""
    if detector == 'ssdlite':  # the ratio isn't kept
        return math.sqrt(size[0] * size[1] / (width * height))
    return min(max(size) / max(width, height), min(size) / min(width, height))


def _square(detector: str, width: float, height: float, small: float, given: int | None) -> Choices:
    sizes = SSD_SIZES if detector == 'ssdlite' else YOLOX_SIZES
    if given:
        return Choices(detector, (given, given))
    step = 64 if detector == 'ssdlite' else 32
    fits = math.ceil(max(width, height) / step) * step  # more would show nothing new
    usual = min(sizes[0], max(fits, 2 * step))
    allowed = [usual, *(size for size in sizes if usual < size <= max(2 * fits, usual))]
    size = next((s for s in allowed if small * _scale(detector, (s, s), width, height) >= SMALLEST), allowed[-1])
    reached = small * _scale(detector, (size, size), width, height) >= SMALLEST
    crop = not reached and detector in CROP and size < max(width, height)
    return Choices(detector, (size, size), crop)


def _keeping_ratio(detector: str, width: float, height: float, small: float, given: int | None) -> Choices:
    long, short = max(width, height), min(width, height)
    largest = min(LARGEST[0] / long, LARGEST[1] / short)
    scale = given / short if given else min(largest, max(1.0, min(2.0, SMALL / small)))
    crop = not given and largest < 1 and small * largest < SMALLEST
    # the width first, by the rule of MMDetection's Resize the longer and the shorter side
    return Choices(detector, (round(long * scale), round(short * scale)), crop)


def _anchors(choices: Choices, base: Config, train: Contents, shallow: bool) -> None:
    path = DETECTORS[choices.detector].generator
    if not path:
        choices.reasons['anchors'] = 'none: YOLOX does without'
        return
    generator = base.model
    for key in path:
        generator = generator[key]
    generator = generator.to_dict()
    boxes, size = _input_boxes(choices, train), choices.input_size
    if choices.detector != 'ssdlite':
        choices.anchors = choose_anchors(generator, boxes, train.labels, size)
    else:
        usual = generator['min_sizes'], generator['max_sizes'], size[0] / 320
        scaled = dict(
            generator, strides=_strides(size[0], 16),
            min_sizes=[round(side * usual[2]) for side in usual[0]],
            max_sizes=[round(side * usual[2]) for side in usual[1]],
        )  # fmt: skip
        coarse = choose_anchors(scaled, boxes, train.labels, size)
        fine = choose_anchors(dict(scaled, strides=_strides(size[0], 8)), boxes, train.labels, size)
        choices.fine = shallow or fine.after > coarse.after + 0.05
        best = fine if choices.fine else coarse
        choices.strides = _strides(size[0], 8 if choices.fine else 16)
        sizes = {key: scaled[key] for key in ('min_sizes', 'max_sizes')}
        changed = choices.fine or size[0] != 320
        choices.anchors = Anchors(best.settings or (sizes if changed else {}), coarse.before, best.after)
    found = choices.anchors
    step = choices.strides[0] if choices.strides else generator['strides'][0]
    if found.after < POOR:
        choices.warnings.append(
            f'anchors overlap {found.after:.2f} of the boxes at an IoU of 0.5 (mean over classes): they are small for '
            f'the finest step of {step} pixels'
            + ('' if choices.detector == 'faster_rcnn' else '; --detector faster_rcnn has one of 4')
        )
    reached = f'{found.after:.2f} of the boxes are overlapped at an IoU of 0.5 or more (mean over classes)'
    use = 'as shallow features learn sooner' if shallow else 'for the small ones'
    level = f'; there is a level of stride 8, {use}' if choices.fine else ''
    choices.reasons['anchors'] = (
        f"{reached}, {found.before:.2f} by the base's{level}" if found.settings else f"the base's: {reached}"
    )


def _strides(size: int, first: int) -> list[int]:
    """The strides of SSDLite's six levels: each level's map is half as wide as the one before, rounded up."""
    maps = [math.ceil(size / first)]
    for _ in range(5):
        maps.append(math.ceil(maps[-1] / 2))
    return [round(size / side) for side in maps]


def _input_boxes(choices: Choices, train: Contents) -> np.ndarray:
    """Width and height of the training boxes in pixels of the input."""
    sizes = train.sizes[train.owners]
    if choices.crop:
        return train.boxes * choices.factor
    if choices.detector == 'ssdlite':
        return train.boxes / sizes * np.array(choices.input_size)
    long, short = max(choices.input_size), min(choices.input_size)
    return train.boxes * np.minimum(long / sizes.max(1), short / sizes.min(1))[:, None]


def _schedule(choices: Choices, train: Contents, started: bool, given: int | None) -> None:
    images = train.images
    usual, least, most = EPOCHS['started' if started else 'scratch']
    if choices.detector == 'yolox' and not started:
        usual, least = 2 * usual, 2 * least  # mosaics of four images
    epochs = min(max(usual * math.sqrt(300 / images), least), most)
    text = f'{epochs:.0f} passes over {images} images'
    if choices.crop:
        area = float(np.median(train.sizes.prod(1))) * choices.factor**2
        repeats = min(MOST_REPEATS, max(1.0, area / math.prod(choices.input_size)))
        epochs *= repeats
        text += f', {repeats:.0f} times the usual number as a crop shows a part of an image'
    iterations = epochs * images / choices.batch_size
    rounded = max(FEWEST, round(iterations / 100) * 100)
    if given:
        rounded, text = given, 'as you say'
    elif rounded == FEWEST and iterations < FEWEST:
        text += f', and no fewer than {FEWEST} iterations'
    choices.iterations = rounded
    choices.epochs = max(1, round(rounded * choices.batch_size / images))
    choices.rate = float(f'{DETECTORS[choices.detector].rate[0 if started else 1] * choices.batch_size / 16:.3g}')
    if choices.detector == 'ssdlite' and choices.epochs < SHORT and not choices.crop:
        choices.light = True
        choices.reasons['augmentation'] = (
            f"flips alone: with SSD's crops and expansions a network learns little in {choices.epochs} passes"
        )
    choices.reasons['schedule'] = text
    usual_rate = DETECTORS[choices.detector].rate[0 if started else 1]
    choices.reasons['learning rate'] = f'{usual_rate:g} for a batch of 16, in proportion'


def _frequencies(choices: Choices, train: Contents, classes: tuple[str, ...]) -> None:
    pairs = np.unique(np.stack([train.owners, train.labels]), axis=1)
    images = np.bincount(pairs[1], minlength=len(classes))
    there = images[images > 0]
    if there.max() >= RARE * there.min():
        choices.oversample = float(f'{min(0.1, float(np.median(there)) / train.images):.1g}')
        choices.reasons['rare classes'] = (
            f'images of classes in less than {choices.oversample:g} of the images come more often, as the most '
            f'frequent class is in {there.max()} images and the rarest in {there.min()}'
        )
    most = int(np.bincount(train.owners).max())
    usual = 200 if choices.detector == 'ssdlite' else 100
    wanted = max(300 if len(classes) >= MANY else 0, math.ceil(1.5 * most / 50) * 50)
    if wanted > usual and choices.detector != 'yolox':
        choices.most = wanted
        choices.reasons['detections'] = f'{wanted} an image at most: an image has up to {most} boxes' + (
            f', and there are {len(classes)} classes' if len(classes) >= MANY else ''
        )
    absent = [name for name, number in zip(classes, images) if not number]
    if absent:
        choices.warnings.append(
            f'{len(absent)} of the {len(classes)} classes have no box to learn from: {", ".join(absent[:6])}'
            f'{" …" if len(absent) > 6 else ""}'
        )
    counts = np.bincount(train.labels, minlength=len(classes))
    few = [f'{name} ({number})' for name, number in zip(classes, counts) if 0 < number < 10]
    if few:
        choices.warnings.append(
            f'{len(few)} classes have fewer than 10 boxes to learn from, which is too few to rely on: '
            f'{", ".join(few[:6])}{" …" if len(few) > 6 else ""}'
        )
    if len(classes) >= MANY and choices.detector in ('ssdlite', 'retinanet'):
        choices.warnings.append(
            f'{DETECTORS[choices.detector].title} scores every one of {len(classes)} classes at every anchor, which '
            f'takes memory; --detector faster_rcnn does so for proposals alone'
        )
