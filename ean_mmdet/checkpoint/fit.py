"""Whether a checkpoint is one of this model at all."""

import re

from mmengine.model import BaseTTAModel, is_model_wrapper
from torch import nn

from ..errors import InputError


def check_fit(model: nn.Module, checkpoint: dict, source: str) -> None:
    """Refuse a checkpoint that shares no weight with the model.

    Args:
        model: The model that the checkpoint is for.
        checkpoint: The loaded checkpoint, or its ``state_dict``.
        source: Where it came from, for the message.

    Raises:
        InputError: No key of the same name and shape in common.
    """
    while is_model_wrapper(model) or isinstance(model, BaseTTAModel):
        model = model.module
    own = model.state_dict()
    # mmengine drops the prefix of a wrapped model's checkpoint
    weights = {re.sub(r'^module\.', '', key): value for key, value in checkpoint.get('state_dict', checkpoint).items()}
    if not any(key in own and own[key].shape == getattr(value, 'shape', None) for key, value in weights.items()):
        raise InputError(
            f'{source} has no weight in common with this {type(model).__name__}. It has {_sample(weights)}; the model '
            f'has {_sample(own)}. Is it a checkpoint of another model, or of a backbone alone (for which there is '
            f'init_cfg)?'
        )


def _sample(weights: dict) -> str:
    keys = list(weights)
    return ', '.join(keys[:2]) + (f' and {len(keys) - 2} more' if len(keys) > 2 else '') if keys else 'nothing'
