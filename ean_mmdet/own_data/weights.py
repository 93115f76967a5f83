"""Weights that a detector can start from: the user's, those that MMDetection published, an ImageNet backbone."""

from __future__ import annotations

import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

import mmdet
import torch
import yaml
from mmengine.runner.checkpoint import get_torchvision_models
from torch import nn

from ..checkpoint.reading import weights_in
from ..checkpoint.safe_load import load_local
from ..checkpoint.warm_start import adapt_weights
from ..errors import InputError
from .choices import DETECTORS

TIMEOUT = 5  # seconds that a server has to answer in


@dataclass(frozen=True)
class Start:
    """Start of a detector.

    Attributes:
        kind: ``'checkpoint'`` for a file or address that is loaded before training, ``'backbone'`` for the ImageNet
            weights that the base config names, ``'scratch'`` for nothing.
        checkpoint: The file or address.
        note: Why.
    """

    kind: str
    checkpoint: str | None
    note: str


def find_start(detector: str, given: str | None) -> Start:
    """Find what to start from.

    Args:
        detector: Of :data:`.DETECTORS`.
        given: A checkpoint, or ``'none'`` for nothing. Defaults to None, MMDetection's detector trained on COCO where
            that is on this machine or can be had, else an ImageNet backbone, else nothing.

    Raises:
        InputError: There is no such file.
    """
    if given == 'none':
        return Start('scratch', None, 'from scratch, as you say')
    if given:
        if '://' not in given and not Path(given).is_file():
            raise InputError(f'--from {given}: no such file. It takes a checkpoint, an address, or none')
        place = given if '://' in given else str(Path(given).resolve())
        return Start(
            'checkpoint', place, 'your checkpoint; what fits is loaded, and new attention changes nothing at first'
        )
    name = DETECTORS[detector].weights
    if name is None:
        return Start('scratch', None, 'there are no published weights of MobileNeXt SSDLite; --from takes your own')
    url = _published(name)
    if url and _can_be_had(url):
        return Start('checkpoint', url, f"MMDetection's {Path(url).stem.rpartition('_2')[0]}, trained on COCO")
    backbone = get_torchvision_models()['resnet50'] if detector != 'yolox' else None
    if backbone and _can_be_had(backbone):
        return Start('backbone', backbone, 'a ResNet-50 trained on ImageNet')
    return Start(
        'scratch', None, 'from scratch, as neither this machine nor the network has weights; --from takes your own'
    )


def check_start(start: Start, model: nn.Module) -> None:
    """See that a checkpoint on this machine is one of a model, as training will.

    Raises:
        InputError: It isn't.
    """
    if start.kind == 'checkpoint' and start.checkpoint is not None and Path(start.checkpoint).is_file():
        place = start.checkpoint
        try:
            adapt_weights(model, weights_in(load_local(place), place), place)
        except InputError as error:
            raise InputError(
                f'--from none starts from nothing, and --width has to be that of the network in the file: {error}'
            ) from error


def _published(config: str) -> str | None:
    """The address of the weights that MMDetection lists for one of its configs."""
    root = Path(mmdet.__file__).parent / '.mim' / 'configs'
    file = root / Path(config).parent / 'metafile.yml'
    if not file.is_file():
        return None
    models = yaml.safe_load(file.read_text(encoding='utf-8'))['Models']
    return next((m.get('Weights') for m in models if m.get('Config', '').endswith(config)), None)


def _can_be_had(url: str) -> bool:
    """Tell whether a file is in torch.hub's folder, or its server has it."""
    if Path(torch.hub.get_dir(), 'checkpoints', url.rpartition('/')[2]).is_file():
        return True
    try:
        with urllib.request.urlopen(urllib.request.Request(url, method='HEAD'), timeout=TIMEOUT) as answer:
            return answer.status == 200
    except (urllib.error.URLError, OSError):
        return False
