"""Matching of a checkpoint's weights with a model's, whichever library wrote it.

What has the model's own keys goes by them. The same network in another library has the same layers under other names,
so they are matched by what they are: the n-th convolution is the n-th convolution, the n-th norm the n-th norm, and
every shape has to agree. Shortcuts, which some libraries list before a block's layers and some after, are counted by
themselves. So torchvision's, timm's and MMPretrain's layouts of one network need no tables, and what has other layers,
or lists them otherwise, is refused rather than guessed.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field

from torch import Tensor, nn

from ..errors import InputError
from .keep import calls
from .reading import inside, sample

# Blocks that compute otherwise than those that every other library's weights of the network are for, and how.
OTHERWISE = {
    'mmdet.models.backbones.res2net.Bottle2neck': "MMDetection's Res2Net doesn't pool a part of its first block, "
    "as timm's and MMPretrain's do; take MMPretrain's (type='mmpretrain.Res2Net')",
}
BACKBONE = 'backbone.'
# What libraries call the convolution and norm on a block's shortcut.
SHORTCUTS = {'downsample', 'shortcut', 'proj', 'identity', 'skip'}
COUNTER = 'num_batches_tracked'  # old checkpoints have none, and what it counts is no weight


@dataclass
class Match:
    """Weights of a checkpoint for a model.

    Attributes:
        source: How its keys were matched, in words.
        by_name: Whether they are the model's own.
        tensors: The checkpoint's tensors by the model's keys.
        skipped: The checkpoint's keys that are not loaded, unexpected or of another shape, each with the reason.
        missing: The model's keys that the checkpoint has nothing for.
        problems: Why it seems to be of another architecture than the model, in words; empty where it doesn't.
        region: Which part of the model the checkpoint is of: a prefix of the model's keys, ``''`` for the whole.
        own_prefix: Prefix of the model's backbone in the model's keys: ``'backbone.'``, or ``''`` where the model is
            the backbone.
        source_prefix: Likewise in the checkpoint's keys.
        authors_ean: Whether it has EANs of the authors' classification code.
    """

    source: str
    by_name: bool
    tensors: dict[str, Tensor]
    skipped: dict[str, str]
    missing: list[str]
    problems: list[str]
    region: str
    own_prefix: str
    source_prefix: str
    authors_ean: bool


def match_weights(weights: dict[str, Tensor], model: nn.Module) -> Match:
    """Find the parameter or buffer of a model that each weight of a checkpoint is for.

    Args:
        weights: The checkpoint's, see :func:`.weights_in`.
        model: A backbone, or a detector or classifier.

    Raises:
        InputError: The weights are another library's, and the model computes otherwise with them.
    """
    own = model.state_dict()
    own_prefix, source_prefix = (
        BACKBONE if any(key.startswith(BACKBONE) for key in keys) else '' for keys in (own, weights)
    )
    whole = own_prefix == source_prefix
    weights, authors_ean = _authors_ean(weights)
    theirs, ours = inside(weights, source_prefix), inside(own, own_prefix)
    attention = set(attention_keys(model))
    plain = {key: value for key, value in ours.items() if own_prefix + key not in attention}

    found = {key: key for key in plain if key in theirs}  # the model's key → the checkpoint's
    source = "keys as the model's"
    if any(key not in found and not key.endswith(COUNTER) for key in plain):
        part = model.get_submodule(own_prefix.rstrip('.')) if own_prefix else model
        ordered = by_order(theirs, plain)
        if ordered is None and _has_all(theirs, plain):
            ordered = by_order(theirs, _as_called(plain, part))
        if ordered is not None:
            found = ordered
            example = next(key for key in found if found[key] != key)
            source = f"another library's keys, by the order of layers ({found[example]} → {example}, …)"
            for kind in dict.fromkeys(type(module) for module in part.modules()):
                if reason := OTHERWISE.get(f'{kind.__module__}.{kind.__qualname__}'):
                    raise InputError(f'the checkpoint is of the same layers as the model, but {reason}')
            source += ". What no weight tells, as padding and the norms' eps, is as the config has it"
    by_name = all(key == origin for key, origin in found.items())
    found |= _attention(theirs, {key: ours[key] for key in ours if own_prefix + key in attention})

    tops = {key.split('.', 1)[0] for key in ours}
    used = set(found.values())
    unexpected = [key for key in theirs if key not in used]
    skipped = {source_prefix + key: 'unexpected' for key in unexpected}
    tensors = {own_prefix + key: theirs[origin] for key, origin in found.items()}
    for key in weights:
        if not key.startswith(source_prefix):
            if whole and key in own and own[key].shape == weights[key].shape:
                tensors[key] = weights[key]
            else:
                skipped[key] = 'another shape in the model' if whole and key in own else 'unexpected'

    problems = []
    shapes = [key for key in found if theirs[found[key]].shape != ours[key].shape]
    if shapes:
        texts = [
            f'{source_prefix}{found[k]} is {tuple(theirs[found[k]].shape)}, in the model {tuple(ours[k].shape)}'
            for k in shapes
        ]
        problems.append(f'weights of another shape ({sample(texts, 2)})')
    eans = {key for layer in _layers(theirs) if layer.kind[0] == 'EAN' for key in layer.keys.values()}
    strange = [source_prefix + key for key in unexpected if (by_name and key.split('.', 1)[0] in tops) or key in eans]
    if strange:
        problems.append(f'unexpected keys ({sample(strange)})')
    return Match(
        source=source + (", with the authors' EAN (weight norm 'rms')" if authors_ean else ''),
        by_name=by_name,
        tensors=tensors,
        skipped=skipped,
        missing=[key for key in own if key not in tensors and not key.endswith(f'.{COUNTER}')],
        problems=problems,
        region='' if whole else own_prefix,
        own_prefix=own_prefix,
        source_prefix=source_prefix,
        authors_ean=authors_ean,
    )


@dataclass
class Layer:
    """The weights of one layer: its kind, and key and shape of each by the name of the parameter."""

    name: str
    kind: tuple[str, bool]
    keys: dict[str, str] = field(default_factory=dict)
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)

    @property
    def signature(self) -> tuple:
        """The kind and all shapes, but for the counter: what another library's layer has to have too."""
        return self.kind, *sorted(item for item in self.shapes.items() if item[0] != COUNTER)


def _layers(tensors: dict[str, Tensor]) -> list[Layer]:
    """The layers of a state dict, in its order; in the order of their numbers where it is sorted by letters."""
    keys = list(tensors)
    if _is_sorted(tensors):
        keys.sort(key=lambda key: [int(part) if part.isdigit() else part for part in re.split(r'(\d+)', key)])
    members: dict[str, dict[str, str]] = {}
    for key in keys:
        name, _, parameter = key.rpartition('.')
        members.setdefault(name, {})[parameter] = key
    result = []
    for name, parameters in members.items():
        shapes = {parameter: tuple(tensors[key].shape) for parameter, key in parameters.items()}
        dims = len(shapes.get('weight', ()))
        kind = {1: 'norm', 2: 'linear'}.get(dims, 'conv') if dims else ', '.join(sorted(shapes))
        kind = 'EAN' if {'alpha', 'delta'} <= shapes.keys() else kind
        result.append(Layer(name, (kind, bool(SHORTCUTS & set(name.split('.')))), parameters, shapes))
    return result


def _is_sorted(tensors: dict[str, Tensor]) -> bool:
    return list(tensors) == sorted(tensors)


def by_order(theirs: dict[str, Tensor], ours: dict[str, Tensor]) -> dict[str, str] | None:
    """Match the layers of two state dicts of one network, the n-th of a kind with the n-th of that kind.

    Args:
        theirs: The checkpoint's. It may have more layers behind the last that is matched, such as a head.
        ours: The model's.

    Returns:
        The checkpoint's key by the model's; None where a layer of the model has none, or one of another shape, or the
        checkpoint has layers in between that the model hasn't.
    """
    rest: dict[tuple[str, bool], list[tuple[int, Layer]]] = {}
    for index, layer in enumerate(reversed(_layers(theirs))):
        rest.setdefault(layer.kind, []).append((-index, layer))
    found: dict[str, str] = {}
    last = -len(theirs)
    for layer in _layers(ours):
        if not rest.get(layer.kind):
            return None
        index, other = rest[layer.kind].pop()
        if layer.signature != other.signature:
            return None
        found.update({key: other.keys[p] for p, key in layer.keys.items() if p in other.keys})
        last = max(last, index)
    # Attention has its own order; sorted by letters, a classifier may come first.
    apart = {'EAN', 'linear'} if _is_sorted(theirs) else {'EAN'}
    rests = (layer for layers in rest.values() for index, layer in layers if index < last)
    return found if all(layer.kind[0] in apart for layer in rests) else None


def _has_all(theirs: dict[str, Tensor], ours: dict[str, Tensor]) -> bool:
    """Tell whether a checkpoint has each layer of a model, whatever their order."""
    own, other = (Counter(layer.signature for layer in _layers(tensors)) for tensors in (ours, theirs))
    return not own - other


def _as_called(tensors: dict[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """A model's weights in the order in which it calls its layers, as DenseNet's transitions are listed last."""
    position = {name: index for index, name in enumerate(dict.fromkeys(name for name, _ in calls(model)))}
    return dict(sorted(tensors.items(), key=lambda item: position.get(item[0].rpartition('.')[0], len(position))))


def attention_keys(model: nn.Module) -> dict[str, nn.Module]:
    """The keys of a model's attention modules, and whose they are."""
    gates = [(path, part) for path, part in model.named_modules(remove_duplicate=False) if hasattr(part, 'gate_layers')]
    return {f'{path}.{key}': gate for path, gate in gates for key in gate.state_dict()}


def _attention(theirs: dict[str, Tensor], ours: dict[str, Tensor]) -> dict[str, str]:
    """The weights of attention: by the keys, or EANs by their order, as their names and places differ."""
    if any(key in theirs for key in ours):
        return {key: key for key in ours if key in theirs}
    own, eans = ([layer for layer in _layers(tensors) if layer.kind[0] == 'EAN'] for tensors in (ours, theirs))
    if len(eans) != len(own) or any(a.signature != b.signature for a, b in zip(own, eans)):
        return {}
    return {key: other.keys[p] for layer, other in zip(own, eans) for p, key in layer.keys.items()}


def _authors_ean(weights: dict[str, Tensor]) -> tuple[dict[str, Tensor], bool]:
    """Weights whose EANs have γ and β in a GroupNorm, and α and δ of shape (1, k, 1, 1), as the module's here.

    The keys stay where they are in the order.
    """
    suffix = '.groupnorm.weight'
    eans = {
        key[: -len(suffix)] for key in weights if key.endswith(suffix) and f'{key[: -len(suffix)]}.alpha' in weights
    }
    result = {}
    for key, value in weights.items():
        module, _, parameter = key.rpartition('.')
        if module in eans and parameter in ('alpha', 'delta'):
            value = value.flatten()
        if module.endswith('.groupnorm') and module.removesuffix('.groupnorm') in eans:
            key = f'{module.removesuffix(".groupnorm")}.{parameter}'
        result[key] = value
    return result, bool(eans)
