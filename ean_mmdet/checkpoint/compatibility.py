"""Compatibility of a checkpoint with a model: how much it fills, and what it seems to be of if little."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

from mmengine.logging import print_log
from mmengine.model import BaseTTAModel, is_model_wrapper
from torch import Tensor, nn

from ..errors import InputError
from .reading import sample

# A checkpoint that fills less of a model than this is one of another model.
LEAST_SHARE = 0.1


@dataclass(frozen=True)
class Compatibility:
    """Compatibility of a checkpoint with a model. Statistics and counters of norms don't count.

    Attributes:
        share: Of the model's parameters, by their number, those that the checkpoint fills.
        missing: Keys of parameters that the checkpoint lacks.
        mismatched: Keys of parameters that it has in another shape: its shape and the model's.
        unexpected: Keys that it has and the model lacks.
        extra: The number of their weights, as a share of the model's.
    """

    share: float
    missing: tuple[str, ...]
    mismatched: dict[str, tuple[tuple[int, ...], tuple[int, ...]]]
    unexpected: tuple[str, ...]
    extra: float = 0.0

    @property
    def complete(self) -> bool:
        """True where every parameter is filled."""
        return not self.missing and not self.mismatched

    @property
    def width_ratio(self) -> float | None:
        """Ratio of the widths of layers that differ, to the model's; None where not one number says it."""
        ratios = Counter(theirs[0] / own[0] for theirs, own in self.mismatched.values() if theirs and own)
        ratio, count = ratios.most_common(1)[0] if ratios else (1, 0)
        return ratio if ratio != 1 and count > len(self.mismatched) / 2 and len(self.mismatched) > 8 else None

    def guess(self) -> str:
        """Say what the checkpoint seems to be of."""
        if self.width_ratio is not None:
            return f'of another width (most of its layers have {self.width_ratio:g} times the channels)'
        if self.mismatched:
            if self.share > 0.5:
                return 'of another number of classes, or another head'
            return 'of another architecture'
        if self.unexpected and not self.missing:
            return 'of a larger model (more layers?)'
        if self.missing and not self.unexpected:
            return 'of a part of the model, such as its backbone, or of a shallower one'
        return 'of another depth or architecture'

    def details(self) -> str:
        """The first few keys that don't fit."""
        parts = []
        if self.mismatched:
            shapes = [f'{key} is {list(theirs)}, not {list(own)}' for key, (theirs, own) in self.mismatched.items()]
            parts.append(f'{len(shapes)} of another shape ({sample(shapes, 2)})')
        if self.missing:
            parts.append(f'{len(self.missing)} missing ({sample(self.missing)})')
        if self.unexpected:
            parts.append(f'{len(self.unexpected)} unexpected ({sample(self.unexpected)})')
        return ', '.join(parts)


def unwrapped(model: Any) -> nn.Module:
    """The model without distributed training's and test-time augmentation's wrappers."""
    while is_model_wrapper(model) or isinstance(model, BaseTTAModel):
        model = model.module
    return model


def measure_compatibility(model: nn.Module, weights: dict) -> Compatibility:
    """Compare a model's parameters with a checkpoint's weights, by key and shape."""
    model = unwrapped(model)
    own = dict(model.named_parameters(remove_duplicate=False))
    buffers = {key for key, _ in model.named_buffers(remove_duplicate=False)}
    theirs = {key: value for key, value in weights.items() if isinstance(value, Tensor)}
    missing = tuple(key for key in own if key not in theirs)
    mismatched = {
        key: (tuple(theirs[key].shape), tuple(tensor.shape))
        for key, tensor in own.items()
        if key in theirs and theirs[key].shape != tensor.shape
    }
    unexpected = tuple(
        key for key in theirs if key not in own and key not in buffers and not key.endswith('num_batches_tracked')
    )
    total = sum(tensor.numel() for tensor in own.values())
    filled = sum(tensor.numel() for key, tensor in own.items() if key in theirs and key not in mismatched)
    extra = sum(theirs[key].numel() for key in unexpected)
    return Compatibility(
        filled / total if total else 1.0, missing, mismatched, unexpected, extra / total if total else 0.0
    )


def check_compatibility(model: nn.Module, weights: dict, source: str, complete: bool = False) -> None:
    """Refuse a checkpoint that isn't one of this model, and tell in two lines of one that fills a part of it.

    Args:
        model: The model that the checkpoint is for.
        weights: The checkpoint's, by the model's keys where it has them.
        source: Where it came from, for the message.
        complete: Whether the model is used as it is, to evaluate, predict or resume: then no parameter may have another
            shape in the checkpoint, and nine tenths have to be in it, and not a tenth more. Defaults to False: a
            backbone's checkpoint, or one with another head, is something to start training from.

    Raises:
        InputError: It fills too little of the model.
    """
    found = measure_compatibility(model, weights)
    too_much = complete and found.extra > LEAST_SHARE
    if found.complete and not too_much:
        return
    model = unwrapped(model)
    kind = type(model).__name__
    of_another = found.share < LEAST_SHARE or found.width_ratio is not None
    if of_another or too_much or (complete and (found.mismatched or found.share < 0.9)):
        if found.share == 0 and not found.mismatched:
            raise InputError(
                f'{source} has no weight in common with this {kind}. It has {sample(weights, 2)}; the model has '
                f'{sample(model.state_dict(), 2)}. Is it a checkpoint of another model, or of a backbone alone (for '
                f'which there is init_cfg)?'
            )
        raise InputError(
            f'{source} fills {found.share:.1%} of the parameters of this {kind}; it seems to be {found.guess()}. '
            f'Of the keys, {found.details()}. Take the config that it was trained with'
        )
    print_log(
        f'{source} fills {found.share:.1%} of the parameters of {kind}; the others stay as initialized.\n'
        f'It seems to be {found.guess()}: {found.details()}',
        logger='current',
        level=30,
    )


def first_not_finite(weights: dict) -> str | None:
    """The first key whose weights are infinite or NaN in part; None where all are finite."""
    floats = ((key, value) for key, value in weights.items() if isinstance(value, Tensor) and value.is_floating_point())
    return next((key for key, value in floats if not value.isfinite().all()), None)


def check_finite(weights: dict, source: str) -> None:
    """See that a checkpoint has no weights that are infinite or NaN.

    Raises:
        InputError: It has.
    """
    if (key := first_not_finite(weights)) is not None:
        raise InputError(
            f'{source} has weights that are infinite or NaN ({key}): its run had diverged. Take an older checkpoint, '
            f'and a lower learning rate or clipped gradients'
        )
