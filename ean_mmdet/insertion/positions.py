"""Positions of attention in a network: the paper's positions by the shape of the blocks, or those that a pattern names.

Li, Li and Wen, AAAI 2024, 'Integration Strategy'.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.instancenorm import _InstanceNorm

from ..errors import near_names
from .norm_attention import Switch, channels_of

CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)
NORMS = (_BatchNorm, _InstanceNorm, nn.GroupNorm, nn.LayerNorm)
# Parts of a block that are no part of its main branch.
_ASIDE = re.compile(r'(downsample|shortcut|skip|proj|se|se_layer|se_module|attn|attn2|attn3|avd|aa|fc|.*_attention)$')
# What a block with a residual addition has among its attributes, or in the name of its class.
_ADDS = ('downsample', 'shortcut', 'add', 'add_identity', 'use_add')
_ADDING = re.compile(r'Bottleneck|Basic(Block)?$|Res(idual)?Block|DarkBlock|PreAct|Dense_?Layer')
_FUSED = re.compile(r'FusedMBConv|EdgeResidual|FusedInverted')
_INVERTED = re.compile(r'Inverted|MBConv|EdgeResidual|DepthwiseSeparableConv|LinearBottleneck')
MOST_CONVOLUTIONS = 12  # of a block; more are several blocks


@dataclass
class Position:
    """Norm that attention follows.

    Attributes:
        norm: Name of the norm in the model, or of the convolution (or other module) where no norm stands between.
        channels: Channels of its output.
        stage: Name of the stage; positions of one stage can share a module.
        attention: Name of the attention module in the model; positions that share one have the same. None where the
            position has none (``connections``).
        scale: What the norm's weight and bias were multiplied by, to keep the network's function.
        note: What else there is to know.
        switch: The attention module, and whether it is on.
    """

    norm: str
    channels: int
    stage: str = ''
    attention: str | None = None
    scale: float = 1.0
    note: str = ''
    switch: Switch = field(default_factory=Switch, repr=False, compare=False)


def positions(model: nn.Module) -> list[Position]:
    """The positions of a model's attention, in their order, with names as the model has them.

    Args:
        model: A model that attention was attached to, or one that has such a part, such as a detector its backbone.
    """
    found = []
    for prefix, module in model.named_modules():
        for position in getattr(module, 'attention_positions', ()):
            names = {
                key: f'{prefix}.{name}' if prefix else name
                for key in ('norm', 'attention', 'stage')
                if (name := getattr(position, key)) is not None
            }
            found.append(replace(position, **names))
    return found


def find_positions(model: nn.Module, at: str | Sequence[str], caller: str) -> list[Position]:
    """The positions that ``at`` names, see :func:`.attach`.

    Raises:
        ValueError: There are none, a pattern is no regular expression, or a module's channels aren't known.
    """
    if at == 'auto':
        places = list(_auto(model))
        if not places:
            raise ValueError(_unknown(model, caller))
    else:
        places = [(name, _stage(model, name)) for name in _matching(model, at, caller)]
    found = []
    for name, stage in places:
        channels = channels_of(model.get_submodule(name))
        if channels is None:
            raise ValueError(
                f'{caller}: cannot tell how many channels {name!r} ({type(model.get_submodule(name)).__name__}) gives; '
                f'name a norm or a convolution'
            )
        found.append(Position(name, channels, stage))
    return found


@dataclass(frozen=True)
class _Layer:
    """A convolution of a block, and the norm behind it."""

    name: str
    convolution: Any
    norm: str | None

    @property
    def last(self) -> str:
        """The norm, or the convolution if it has none."""
        return self.norm or self.name

    @property
    def depthwise(self) -> bool:
        return 1 < self.convolution.groups == self.convolution.in_channels


def _is_norm(module: nn.Module) -> bool:
    kind = type(module).__name__
    named = 'Norm' in kind and 'Conv' not in kind and channels_of(module) is not None
    return isinstance(module, NORMS) or named


def _is_convolution(module: nn.Module) -> bool:
    return isinstance(module, nn.Conv2d) or (
        'Conv' in type(module).__name__
        and isinstance(getattr(module, 'weight', None), nn.Parameter)
        and all(isinstance(getattr(module, name, None), int) for name in ('in_channels', 'out_channels', 'groups'))
    )


def _layers(block: nn.Module) -> tuple[list[_Layer], bool]:
    """The convolutions of a block's main branch, in the order in which they were made, and whether a norm is first."""
    layers: list[_Layer] = []
    first: list[bool] = []

    def visit(module: nn.Module, prefix: str) -> None:
        for name, child in module.named_children():
            if _ASIDE.match(name):
                continue
            path = f'{prefix}{name}'
            if _is_convolution(child):
                layers.append(_Layer(path, child, None))
                first.append(False)
            elif _is_norm(child):
                first.append(True)
                # the norm of this convolution, unless it has one
                if layers and layers[-1].norm is None and layers[-1].convolution.out_channels == channels_of(child):
                    layers[-1] = replace(layers[-1], norm=path)
            visit(child, f'{path}.')

    visit(block, '')
    return layers, bool(first and first[0])


def _in_block(block: nn.Module) -> list[str] | None:
    """The positions in a block, by its shape; None where it isn't one."""
    children = dict(block.named_children())
    if isinstance(block, CONTAINERS) or not children:
        return None
    if 'branch2' in children and 'branch3' not in children:  # ShuffleNetV2, and not GoogLeNet's Inception
        branch, _ = _layers(children['branch2'])
        return [f'branch2.{branch[-1].last}'] if branch else None
    layers, norm_first = _layers(block)
    kind, adding = type(block).__name__, _ADDING.search(type(block).__name__)
    if not 0 < len(layers) <= MOST_CONVOLUTIONS or (norm_first and not adding):
        return None
    if (expanding := _expanding(layers, kind)) is not None:
        return [expanding.last]
    if _INVERTED.search(kind):
        return []  # one that doesn't expand
    last = [layers[-1].last]
    if _is_sandglass(layers) or {'f', 'activation'} <= children.keys():  # the latter is torchvision's RegNet
        return last
    pools = any(isinstance(part, nn.MaxPool2d) for part in block.modules())  # YOLO's SPP and SPPF
    adds = adding or any(hasattr(block, name) for name in _ADDS)
    if not adds or pools or len(layers) < 2 or not children.keys() & {'conv1', 'cv1', 'conv_1'}:
        return None
    # by number, as Res2Net of MMDetection makes its last convolution before those in the middle
    numbered = max((name for name in children if re.fullmatch(r'(conv|cv)_?\d', name)), key=lambda name: name[-1])
    return [layer.last for layer in layers if f'{layer.name}.'.startswith(f'{numbered}.')][-1:] or last


def _expanding(layers: Sequence[_Layer], kind: str) -> _Layer | None:
    """The expanding convolution of an inverted residual: one to more channels, and a later one from these to fewer."""
    if not (_FUSED.search(kind) or any(layer.depthwise for layer in layers)):
        return None
    for index, layer in enumerate(layers):
        width = layer.convolution.out_channels
        if not layer.depthwise and layer.norm and width > layer.convolution.in_channels:
            later = [other.convolution for other in layers[index + 1 :] if not other.depthwise]
            return layer if any(other.out_channels < width == other.in_channels for other in later) else None
    return None


def _is_sandglass(layers: Sequence[_Layer]) -> bool:
    """Tell whether they are MobileNeXt's: depthwise, to fewer channels, to more, depthwise."""
    if [layer.depthwise for layer in layers] != [True, False, False, True]:
        return False
    reducing = layers[1].convolution
    return reducing.out_channels < reducing.in_channels


def _auto(model: nn.Module) -> Iterator[tuple[str, str]]:
    """The paper's positions and their stages, by the shape of the blocks."""
    inside: str | None = None
    found = False
    for prefix, block in model.named_modules():
        if inside is not None and prefix.startswith(inside):
            continue
        names = _in_block(block) if prefix else None
        if names is not None:
            inside, found = f'{prefix}.', True
            for name in names:
                yield f'{prefix}.{name}', prefix.rpartition('.')[0]
    if not found:
        yield from _in_plain_stack(model)


def _in_plain_stack(model: nn.Module) -> Iterator[tuple[str, str]]:
    """Behind every layer of a network like VGG, one stack of convolutions called ``features``."""
    for prefix, module in model.named_modules():
        features = dict(module.named_children()).get('features')
        if features is None or not isinstance(features, CONTAINERS):
            continue
        layers, _ = _layers(features)
        direct = all(sum(_is_convolution(part) for part in child.modules()) <= 1 for child in features.children())
        if direct and len(layers) >= 5:
            stage = f'{prefix}.features' if prefix else 'features'
            yield from ((f'{stage}.{layer.last}', stage) for layer in layers)
            return


def _unknown(model: nn.Module, caller: str) -> str:
    kind = type(model).__name__
    if any('ConvNeXt' in type(module).__name__ for module in model.modules()):
        return (
            f'{caller}: the blocks of ConvNeXt have no norm behind their last layer and compute with channels last, so '
            f'no position of the paper is in {kind}; name modules that give maps of (N, C, H, W), as '
            f'{_examples(model)}'
        )
    return (
        f"{caller}: 'auto' knows no position in {kind}, only in the blocks of VGG, ResNet and its kin, MobileNetV2 and "
        f'V3, EfficientNet, MobileNeXt, RegNet, ShuffleNetV2, DenseNet and the CSP networks; name the modules that '
        f'attention is to follow, as {_examples(model)}'
    )


def _stage(model: nn.Module, name: str) -> str:
    """The container around the outermost block that ``name`` is in; empty where that is the model itself."""
    parts = name.split('.')
    for length in range(1, len(parts) + 1):
        path = '.'.join(parts[:length])
        if not isinstance(model.get_submodule(path), CONTAINERS):
            return '.'.join(parts[: length - 1])
    return name


def _matching(model: nn.Module, at: str | Sequence[str], caller: str) -> list[str]:
    """Names that one of the patterns matches as a whole, in the order of the model's modules."""
    patterns = [at] if isinstance(at, str) else list(at)
    names = [name for name, _ in model.named_modules() if name]
    matched = set()
    for pattern in patterns:
        try:
            hits = [name for name in names if re.fullmatch(pattern, name)]
        except re.error as error:
            raise ValueError(f'{caller}: {pattern!r} is no regular expression: {error}') from error
        if not hits:
            near = near_names(pattern, names, 5, 0.4)
            hint = f'near names are {", ".join(near)}' if near else f'it has names as {_examples(model)}'
            raise ValueError(f'{caller}: no module of {type(model).__name__} matches {pattern!r}; {hint}')
        matched.update(hits)
    return [name for name in names if name in matched]


def _examples(model: nn.Module) -> str:
    names = [name for name, module in model.named_modules() if name and channels_of(module)]
    return ', '.join(names[-3:])
