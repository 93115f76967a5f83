"""Any OpenMMLab backbone with an attention module behind each of its blocks' norms.

Places: Li, Li and Wen, AAAI 2024, 'Integration Strategy'.
"""

from __future__ import annotations

import difflib
import inspect
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from mmcv.cnn import ConvModule, DepthwiseSeparableConvModule
from mmengine.registry import MODELS
from torch import Tensor, nn

from .connections import Switch, check_connections, check_unshared, share

CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)


class AfterHook:
    """Forward hook that sends a module's output through an attention module, where its switch is on.

    An object rather than a closure, so that a deep copy and a pickle of the backbone hook up the copy's own attention.
    """

    def __init__(self, switch: Switch) -> None:
        self.switch = switch

    def __call__(self, module: nn.Module, args: tuple, output: Tensor) -> Tensor:
        return self.switch.module(output) if self.switch.on and self.switch.module is not None else output


class KeepHooked:
    """Forward pre-hook of the backbone that hooks up again what was replaced.

    Converting batch norms to synchronized ones and fusing them into convolutions put new modules, without hooks, in
    their stead.

    Args:
        switches: Names of the modules that attention follows, and its switches.
    """

    def __init__(self, switches: dict[str, Switch]) -> None:
        self.switches = switches

    def __call__(self, backbone: nn.Module, args: tuple) -> None:
        for name, switch in self.switches.items():
            module = backbone.get_submodule(name)
            # A list: Dynamo of PyTorch 2.6 traces no generator expression here.
            if AfterHook not in [type(hook) for hook in module._forward_hooks.values()]:
                module.register_forward_hook(AfterHook(switch))


@MODELS.register_module('WithAttention')
def with_attention(
    backbone: dict,
    attention: dict,
    after: str | Sequence[str] = 'auto',
    shared: str | None = None,
    connections: Sequence[int] | None = None,
) -> nn.Module:
    """Build a backbone and insert an attention module after every module that ``after`` names.

    What comes back is the backbone itself, of its own class and with its own keys, so that its pretrained checkpoints
    load. The attention module that follows ``layer1.0.bn3`` is ``layer1.0.bn3_attention``; one that follows a module in
    an ``nn.Sequential`` belongs to the module around that, as ``features_3_attention``.

    With ``'auto'`` the positions are the paper's:

    - VGG: after every convolution's norm (the convolution, if it has none), before the activation;
    - blocks with a residual addition (ResNet, ResNeXt, Res2Net, RegNet, Wide ResNet, CSPDarknet): after the last norm;
    - inverted residuals (MobileNetV2, MobileNetV3, EfficientNet): on the widest features, after the depthwise
      convolution's norm, before its activation. EfficientNet's fused blocks have it after the expanding convolution's;
    - blocks whose result is concatenated: after the last convolution of the branch, after its norm (ShuffleNetV2), or
      the convolution itself (DenseNet, whose norms come before).

    Blocks of MMDetection, MMPretrain and the OpenMMLab libraries that name them alike are known by their classes.

    Args:
        backbone: Config of the backbone, ``dict(type='mmpretrain.ShuffleNetV2', widen_factor=1.0)``.
        attention: Config of the attention module, ``dict(type='EAN', groups=8)``. Its ``in_channels`` are filled in.
        after: Regular expression, or several, for whole names of modules, as ``backbone.named_modules()`` gives them:
            norms, convolutions and other modules whose number of output channels is an attribute. Defaults to
            ``'auto'``.
        shared: ``'stage'``: one module for all positions of a stage that have the same channels, called after the
            stage, ``layer1_attention``. A stage is the list or sequence that a block is in. None: each position has
            its own. Defaults to None.
        connections: A 0 or 1 for each position, in their order: whether it has attention. Defaults to None, all.

    Returns:
        The backbone.

    Raises:
        ValueError: ``after`` matches nothing, isn't a regular expression or matches a module of unknown channels; no
            position is known for ``'auto'``; the attention module can't take a layer's channels; or ``connections`` has
            another length than there are positions, or no 1.

    Example:
        >>> backbone = dict(
        ...     type='WithAttention',
        ...     backbone=dict(type='mmpretrain.MobileNetV3', arch='small'),
        ...     attention=dict(type='EAN', groups=8),
        ... )
        >>> backbone.update(after=r'layer\\d+\\.linear_conv\\.bn')  # instead of the paper's position
    """
    check_gate(attention)
    network: Any = MODELS.build(backbone)
    names = list(_auto_positions(network)) if after == 'auto' else _matching(network, after)
    scheme = check_connections('WithAttention', shared, connections, names)
    check_unshared('WithAttention', shared, MODELS.get(attention['type']), bool(backbone.get('with_cp')))
    widths: dict[str, int] = {}
    for name in names:
        channels = _channels(network.get_submodule(name))
        if channels is None:
            raise ValueError(
                f'WithAttention: cannot tell how many channels {name!r} '
                f'({type(network.get_submodule(name)).__name__}) gives; let `after` name a norm or a convolution'
            )
        widths[name] = channels
        owner, attribute = _attention_name(network, name)
        if hasattr(network.get_submodule(owner), attribute):
            raise ValueError(f'WithAttention: {name!r} is followed by attention already')

    def build(channels: int) -> nn.Module:
        try:
            return MODELS.build({**attention, 'in_channels': channels})
        except ValueError as error:
            name = next(name for name in names if widths[name] == channels)
            raise ValueError(
                f'WithAttention: {attention["type"]} cannot follow {name!r}, which gives {channels} channels: {error}'
            ) from error

    if shared:
        found = share(network, [(_stage(network, name), widths[name]) for name in names], scheme, build)
    else:
        found = []
        for name, on in zip(names, scheme):
            owner, attribute = _attention_name(network, name)
            found.append(Switch(build(widths[name]) if on else None, on))
            if on:
                network.get_submodule(owner).add_module(attribute, found[-1].module)
    keep_hooked = KeepHooked({name: switch for name, switch in zip(names, found) if switch.on})
    keep_hooked(network, ())
    network.register_forward_pre_hook(keep_hooked)
    network.attention_switches, network.attention_blocks = found, names
    network.train(network.training)  # where backbones freeze their stages
    return network


def check_gate(attention: dict) -> None:
    """See that an attention config names a plugin layer, ``Name(in_channels, …)``.

    Raises:
        ValueError: It takes no ``in_channels``, as a norm does.
    """
    kind = attention.get('type')
    layer = MODELS.get(kind) if isinstance(kind, str) else kind
    if not isinstance(layer, type):
        return  # an unknown name, which building it says
    parameters = inspect.signature(layer).parameters
    if 'in_channels' not in parameters and all(p.kind is not p.VAR_KEYWORD for p in parameters.values()):
        raise ValueError(
            f'WithAttention: {kind} takes no in_channels, so it is no layer that gates a feature map, as EAN is. '
            f"A norm with attention replaces other norms instead: norm_cfg=dict(type='AN', num_mixtures=10), or "
            f"backbone=dict(type='ANResNet')"
        )


def _attention_name(backbone: nn.Module, name: str) -> tuple[str, str]:
    """Who gets the attention module that follows ``name``, and what it is called there."""
    owner, child = _owner(backbone, name)
    return owner, f'{child.replace(".", "_")}_attention'


def _stage(backbone: nn.Module, name: str) -> str:
    """The container around the outermost block that ``name`` is in; empty where that is the backbone itself."""
    parts = name.split('.')
    for length in range(1, len(parts) + 1):
        path = '.'.join(parts[:length])
        if not isinstance(backbone.get_submodule(path), CONTAINERS):
            return '.'.join(parts[: length - 1])
    return name


def _last_norm(name: str, layer: nn.Module) -> str:
    """Name of the layer's norm, or of its convolution if it has none; of the layer itself if it isn't compound."""
    if isinstance(layer, DepthwiseSeparableConvModule):
        return _last_norm(f'{name}.pointwise_conv', layer.pointwise_conv)
    if isinstance(layer, ConvModule):
        return f'{name}.{layer.norm_name if layer.with_norm else "conv"}'
    return name


def _vgg_places(vgg: Any) -> list[str]:
    layers = list(vgg.features.children())
    # MMPretrain's VGG is made of ConvModules, mmcv's of convolutions, norms and activations.
    return [
        f'features.{index - isinstance(layer, nn.ReLU)}'
        for index, layer in enumerate(layers)
        if isinstance(layer, (ConvModule, nn.ReLU))
    ]


# By the last two parts of a block's class name: the layers in it that attention follows.
POSITIONS: dict[str, Callable[[Any], list[str]]] = {
    'vgg.VGG': _vgg_places,
    'resnet.BasicBlock': lambda block: [block.norm2_name],
    'resnet.Bottleneck': lambda block: [block.norm3_name],
    'mobilenet_v2.InvertedResidual': lambda block: [f'conv.{len(block.conv) - 2}'],
    'inverted_residual.InvertedResidual': lambda block: ['depthwise_conv'],
    'efficientnet.EdgeResidual': lambda block: ['conv1'],
    'shufflenet_v2.InvertedResidual': lambda block: [f'branch2.{len(block.branch2) - 1}'],
    'densenet.DenseLayer': lambda block: ['conv2'],
    'csp_layer.DarknetBottleneck': lambda block: ['conv2'],
    'cspnet.DarknetBottleneck': lambda block: ['conv2'],
}


def _auto_positions(backbone: nn.Module) -> Iterator[str]:
    found = False
    for prefix, block in backbone.named_modules():
        keys = ['.'.join(f'{cls.__module__}.{cls.__qualname__}'.split('.')[-2:]) for cls in type(block).__mro__]
        positions = next((POSITIONS[key] for key in keys if key in POSITIONS), None)
        if positions is None:
            continue
        found = True
        for child in positions(block):
            yield _last_norm(f'{prefix}.{child}' if prefix else child, block.get_submodule(child))
    if not found:
        raise ValueError(
            f"WithAttention: after='auto' knows no position in {type(backbone).__name__}, only in the blocks of VGG, "
            'ResNet and its kin, MobileNetV2, MobileNetV3, EfficientNet, ShuffleNetV2, DenseNet and CSPDarknet; name '
            f'the modules with `after`, as {_examples(backbone)}'
        )


def _matching(backbone: nn.Module, after: str | Sequence[str]) -> list[str]:
    """Names that one of the patterns matches as a whole, in the order of the backbone's modules."""
    patterns = [after] if isinstance(after, str) else list(after)
    names = [name for name, _ in backbone.named_modules() if name]
    matched = set()
    for pattern in patterns:
        try:
            hits = [name for name in names if re.fullmatch(pattern, name)]
        except re.error as error:
            raise ValueError(f'WithAttention: after={pattern!r} is no regular expression: {error}') from error
        if not hits:
            near = difflib.get_close_matches(pattern, names, n=5, cutoff=0.4)
            hint = f'near names are {", ".join(near)}' if near else f'it has names as {_examples(backbone)}'
            raise ValueError(f'WithAttention: no module of {type(backbone).__name__} matches after={pattern!r}; {hint}')
        matched.update(hits)
    return [name for name in names if name in matched]


def _examples(backbone: nn.Module) -> str:
    names = [name for name, module in backbone.named_modules() if name and _channels(module)]
    return ', '.join(names[-3:])


def _channels(module: nn.Module) -> int | None:
    """A module's output channels, where they are an attribute: norms, convolutions, ConvModules and many blocks."""
    for attribute in ('num_features', 'num_channels', 'out_channels'):
        channels = getattr(module, attribute, None)
        if isinstance(channels, int):
            return channels
    return None


def _owner(backbone: nn.Module, name: str) -> tuple[str, str]:
    """The nearest module around ``name`` that isn't a mere container, and the rest of the name."""
    owner, _, child = name.rpartition('.')
    while owner and isinstance(backbone.get_submodule(owner), CONTAINERS):
        owner, _, part = owner.rpartition('.')
        child = f'{part}.{child}'
    return owner, child
