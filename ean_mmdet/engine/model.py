"""The model of a config, the size of its images, and where it runs."""

from __future__ import annotations

import torch
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope
from torch import nn

from ..datasets.config_parts import datasets_of, scope_of
from ..errors import InputError
from .settings import build_errors


def build_model(config: Config) -> nn.Module:
    """Build the model of a config of any OpenMMLab library, without loading weights.

    Raises:
        InputError: What the config says can't be built.
    """
    with build_errors(config), DefaultScope.overwrite_default_scope(scope_of(config)):
        return MODELS.build(config.model)


def input_shape(config: Config) -> tuple[int, int]:
    """Height and width of the images that a config tests on, padded as its ``data_preprocessor`` pads them.

    An image that is resized with its ratio kept is taken to fill the scale, the longer side across.

    Raises:
        InputError: The test pipeline fixes no size.
    """
    datasets = datasets_of(config)
    steps = (datasets[0].get('pipeline') if datasets else None) or config.get('test_pipeline') or []
    sizes = [step[key] for step in steps for key in ('scale', 'crop_size') if key in step]
    if not sizes:
        raise InputError('the test pipeline of the config fixes no size: give one with --shape HEIGHT WIDTH')
    size = sizes[-1]
    width, height = (size, size) if isinstance(size, int) else size
    divisor = config.model.get('data_preprocessor', {}).get('pad_size_divisor', 1)
    return tuple(-(-side // divisor) * divisor for side in (height, width))


def check_device(device: str) -> None:
    """See that a device is there.

    Raises:
        InputError: It isn't.
    """
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise InputError(f'--device {device} cannot be used here: {str(error).splitlines()[0]}') from error
