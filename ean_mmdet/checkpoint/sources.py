"""Where the weights of a foreign checkpoint belong in a model: the checkpoint's kind is recognised by its keys.

Names are brought to one form on both sides, so that a key is found whichever library wrote it: torchvision's
and timm's ResNets, mmpretrain's classifiers, MMDetection's detectors, the public MobileNeXt code
(``features.N.conv.M…``), and in any of them the EAN of the authors' classification code (``groupnorm.weight``,
``groupnorm.bias``, and ``alpha`` and ``delta`` of shape (1, k, 1, 1)).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ..errors import InputError

BACKBONE = 'backbone.'
_WRAPPERS = re.compile(r'^(module\.|_orig_mod\.)+')  # DataParallel's and torch.compile's
_PUBLIC_MOBILENEXT = re.compile(r'^features\.\d+\.conv\.\d+\.')
_FEATURES = re.compile(r'^features\.(\d+)\.')
_SANDGLASS = re.compile(r'^(stem|layer\d+\.\d+)\.')


@dataclass
class Match:
    """What a checkpoint has for a model.

    Attributes:
        source: What kind of checkpoint it is, in words.
        tensors: The checkpoint's tensors by the model's keys, in the model's shapes.
        skipped: The checkpoint's keys that are not loaded, unexpected or of another shape, each with the reason.
        missing: The model's keys that the checkpoint has nothing for.
        region: Which part of the model the checkpoint is of: a prefix of the model's keys, ``''`` for the whole.
        own_prefix: Prefix of the model's backbone in the model's keys: ``'backbone.'``, or ``''`` where the model is
            the backbone.
        source_prefix: Likewise in the checkpoint's keys.
        authors_ean: Whether it has EANs of the authors' classification code.
    """

    source: str
    tensors: dict[str, Tensor]
    skipped: dict[str, str]
    missing: list[str]
    region: str
    own_prefix: str
    source_prefix: str
    authors_ean: bool


def weights_of(content: Any, prefix: str | None = None, name: str = 'the checkpoint') -> dict[str, Tensor]:
    """The weights in a loaded checkpoint: its ``state_dict``, its ``model``, or itself.

    Args:
        content: What the file held.
        prefix: Take only the keys that start with it, without it. Defaults to None, all.
        name: What to call the checkpoint in an error. Defaults to ``'the checkpoint'``.

    Raises:
        InputError: There are no weights in it, or none under ``prefix``.
    """
    weights = content
    for part in ('state_dict', 'model'):
        if isinstance(weights, dict) and isinstance(weights.get(part), dict):
            weights = weights[part]
    weights = weights if isinstance(weights, dict) else {}
    tensors = {_WRAPPERS.sub('', key): value for key, value in weights.items() if isinstance(value, Tensor)}
    if not tensors:
        raise InputError(f'{name} holds no weights: neither it nor its state_dict is a dict of tensors')
    if prefix:
        prefix = prefix if prefix.endswith('.') else f'{prefix}.'
        inside = {key[len(prefix) :]: value for key, value in tensors.items() if key.startswith(prefix)}
        if not inside:
            tops = dict.fromkeys(f'{key.split(".", 1)[0]}.' for key in tensors if '.' in key)
            raise InputError(f'{name} has no key that starts with {prefix!r}; its keys start with {", ".join(tops)}')
        tensors = inside
    return tensors


def match(weights: dict[str, Tensor], own: dict[str, Tensor], name: str = 'the checkpoint') -> Match:
    """Find the parameter or buffer of a model that each weight of a checkpoint is for.

    Outside the backbone (neck, heads) what doesn't fit is skipped, as a head for other classes must be. In the
    backbone only whole parts that the model hasn't got are, such as a classifier's head or a last stage; anything else
    means another architecture.

    Args:
        weights: The checkpoint's, see :func:`weights_of`.
        own: The model's state dict.
        name: What to call the checkpoint in an error. Defaults to ``'the checkpoint'``.

    Raises:
        InputError: No key in common, or another architecture. Missing keys are for the caller to judge.
    """
    own_prefix = BACKBONE if any(key.startswith(BACKBONE) for key in own) else ''
    source_prefix = BACKBONE if any(key.startswith(BACKBONE) for key in weights) else ''
    whole = own_prefix == source_prefix
    theirs = _canonical(_inside(weights, source_prefix))
    ours = {names: key for key, names in _canonical(_inside(own, own_prefix)).items()}

    found: dict[str, str] = {}  # the model's key → the checkpoint's
    skipped: dict[str, str] = {}
    unexpected = []
    tops = {names.split('.', 1)[0] for names in ours}
    for key, names in theirs.items():
        if names in ours or key in ours.values():
            found[own_prefix + ours.get(names, key)] = source_prefix + key
        else:
            skipped[source_prefix + key] = 'unexpected'
            if names.split('.', 1)[0] in tops:
                unexpected.append(source_prefix + key)
    for key in weights:
        if not key.startswith(source_prefix):
            fits = whole and key in own and own[key].shape == weights[key].shape
            if fits:
                found[key] = key
            else:
                skipped[key] = 'another shape in the model' if whole and key in own else 'unexpected'
    if not found:
        raise InputError(
            f'{name} has no key in common with the model. It has {sample(weights)}; the model has {sample(own)}. '
            f'Is it a checkpoint of another network, or is its network under a prefix (then set prefix=…)?'
        )

    eans = _modules_with(('alpha', 'delta', 'groupnorm.weight', 'groupnorm.bias'), weights)
    tensors = {}
    shapes = []
    for key, origin in found.items():
        module, _, parameter = origin.rpartition('.')
        tensor = weights[origin].flatten() if parameter in ('alpha', 'delta') and module in eans else weights[origin]
        if tensor.shape != own[key].shape:
            shapes.append(f'{origin} is {tuple(tensor.shape)}, in the model {tuple(own[key].shape)}')
        tensors[key] = tensor
    if shapes or unexpected:
        problems = [f'weights of another shape ({sample(shapes, 2)})'] if shapes else []
        problems += [f'unexpected keys ({sample(unexpected)})'] if unexpected else []
        raise InputError(
            f'{name} is of another architecture than the model (another depth, width or attention?): it has '
            f'{" and ".join(problems)}'
        )
    region = '' if whole else own_prefix
    missing = [key for key in own if key not in tensors and not key.endswith('.num_batches_tracked')]
    return Match(
        source=_describe(weights, source_prefix) + (", with the authors' EAN (weight norm 'rms')" if eans else ''),
        tensors=tensors,
        skipped=skipped,
        missing=missing,
        region=region,
        own_prefix=own_prefix,
        source_prefix=source_prefix,
        authors_ean=bool(eans),
    )


def sample(keys: dict[str, Any] | list[str], most: int = 3) -> str:
    """The first few keys, and how many more there are."""
    keys = list(keys)
    return ', '.join(keys[:most]) + (f' and {len(keys) - most} more' if len(keys) > most else '')


def _inside(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {key[len(prefix) :]: value for key, value in tensors.items() if key.startswith(prefix)}


def _describe(weights: dict[str, Tensor], prefix: str) -> str:
    tops = {key.split('.', 1)[0] for key in weights}
    if any(_PUBLIC_MOBILENEXT.match(key[len(prefix) :]) for key in weights):
        return 'MobileNeXt of the public code'
    if prefix:
        if any(key.startswith('head.') for key in weights):
            return 'mmpretrain classifier'
        return 'MMDetection detector' if tops - {'backbone'} else 'backbone under the prefix backbone.'
    if 'fc' in tops and any(top.startswith('layer') for top in tops):
        return 'torchvision or timm ResNet'
    return 'backbone'


def _canonical(part: dict[str, Tensor]) -> dict[str, str]:
    """One name for the same weight in every library: each key of a backbone → that name."""
    names = {key: key for key in part}
    for module in _modules_with(('alpha', 'delta', 'groupnorm.weight', 'groupnorm.bias'), part):
        # The authors' EAN has weight and bias in a GroupNorm.
        for parameter in ('weight', 'bias'):
            names[f'{module}.groupnorm.{parameter}'] = f'{module}.{parameter}'
    names = _name_eans(names)
    if any(_PUBLIC_MOBILENEXT.match(name) for name in names.values()):
        # features.10 comes after features.9, and conv.10 after conv.9
        keys = sorted(names, key=lambda key: [int(piece) for piece in re.findall(r'\d+', key)])
        return _number_layers(part, {key: names[key] for key in keys}, _FEATURES)
    if any('.reduce.conv.' in name for name in names.values()):
        return _number_layers(part, names, _SANDGLASS)
    deep = 'conv1.0.weight' in part
    return {key: _downsample_name(_stem_name(name, deep), key, part) for key, name in names.items()}


def _modules_with(parameters: tuple[str, ...], keys: Iterable[str]) -> list[str]:
    """The modules, in their order, that have all of these parameters."""
    keys = dict.fromkeys(keys)
    suffix = f'.{parameters[0]}'
    modules = [key[: -len(suffix)] for key in keys if key.endswith(suffix)]
    return [module for module in modules if all(f'{module}.{parameter}' in keys for parameter in parameters)]


def _name_eans(names: dict[str, str]) -> dict[str, str]:
    """EANs by their number in the block they are in, whatever the module's own name: ``layer1.0.EAN0``."""
    numbers: dict[str, int] = {}
    renamed = {}
    for module in _modules_with(('alpha', 'delta', 'weight', 'bias'), names.values()):
        block = module.rpartition('.')[0]
        numbers[block] = numbers.get(block, -1) + 1
        renamed[module] = f'{block}.EAN{numbers[block]}'
    result = {}
    for key, name in names.items():
        module, _, parameter = name.rpartition('.')
        result[key] = f'{renamed[module]}.{parameter}' if module in renamed else name
    return result


def _stem_name(name: str, deep: bool) -> str:
    """A deep stem as ``stem.N.conv`` and ``stem.N.bn``, N from 0 to 2, as mmpretrain has it.

    MMDetection counts convolution, norm and activation on in one Sequential; timm does so in ``conv1`` and has the last
    norm in ``bn1``.
    """
    parts = re.fullmatch(r'(stem|conv1)\.([0-7])\.(\w+)', name)
    if parts and (parts[1] == 'stem' or deep):
        index = int(parts[2])
        return f'stem.{index // 3}.{("conv", "bn")[index % 3]}.{parts[3]}' if index % 3 < 2 else name
    return re.sub(r'^bn1\.', 'stem.2.bn.', name) if deep else name


def _downsample_name(name: str, key: str, part: dict[str, Tensor]) -> str:
    """A shortcut's convolution and norm by what they are, as only some libraries count a pooling layer before them."""
    parts = re.fullmatch(r'(.+\.downsample)\.\d\.(\w+)', name)
    if parts is None:
        return name
    weight = part.get(f'{key.rpartition(".")[0]}.weight')
    return f'{parts[1]}.{"norm" if weight is None or weight.dim() < 4 else "conv"}.{parts[2]}'


def _number_layers(part: dict[str, Tensor], names: dict[str, str], block: re.Pattern) -> dict[str, str]:
    """MobileNeXt's layers by the number of the block and their own among the block's convolutions, norms or EANs.

    Both the public code and this package build the blocks, and the layers of each, in the order in which they run.
    """
    blocks: dict[str, int] = {}
    layers: dict[tuple[str, str], list[str]] = {}
    numbered = {}
    for key, name in names.items():
        matched = block.match(name)
        if matched is None:
            numbered[key] = name
            continue
        number = blocks.setdefault(matched[1], len(blocks))
        layer, _, parameter = name.rpartition('.')
        weight = part.get(f'{key.rpartition(".")[0]}.weight')
        kind = 'EAN' if '.EAN' in layer else 'norm' if weight is None or weight.dim() < 4 else 'conv'
        members = layers.setdefault((matched[1], kind), [])
        if layer not in members:
            members.append(layer)
        numbered[key] = f'features.{number}.{kind}{members.index(layer)}.{parameter}'
    return numbered
