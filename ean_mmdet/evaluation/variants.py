"""The networks of a comparison: a config without attention, with each module, and the controls."""

from __future__ import annotations

import ast
import copy
import inspect
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope

from ..engine import build_model, load_config
from ..errors import InputError

PLAIN = 'none'
CONTROLS = {
    'constant': 'a trained constant a channel instead of attention, which cannot see the input',
    'half': 'a fixed half instead of attention, what EAN starts as',
    'wider': 'no attention, and the nearest width with as many parameters more as attention adds',
}
PLACING = ('after', 'shared', 'connections')  # settings of where attention goes, beside those of the module
WIDTHS = ('widen_factor', 'base_channels')


@dataclass(frozen=True)
class Variant:
    """A network of a comparison.

    Attributes:
        name: Its name.
        config: Its config.
        control: Whether it is a control.
        note: What it is.
    """

    name: str
    config: Config
    control: bool = False
    note: str = ''


@dataclass(frozen=True)
class Spec:
    """Variant that ``--attention`` names.

    Attributes:
        name: Name of the network.
        kind: Type of the module, ``'none'``, or the path of a config.
        settings: Those of the module, and of where it goes.
    """

    name: str
    kind: str
    settings: dict[str, Any]


def parse_spec(text: str) -> Spec:
    """Read ``EAN``, ``EAN(groups=8)``, ``NAME=EAN(groups=8)``, ``NAME=CONFIG.py`` or ``none``.

    Raises:
        InputError: It is none of these.
    """
    match = re.fullmatch(r'(?:([\w.+-]+)=)?([\w./+-]+)(?:\((.*)\))?', text.strip())
    try:
        if not match:
            raise ValueError('a name, and settings in brackets')
        name, kind, inside = match.groups()
        call = ast.parse(f'f({inside or ""})', mode='eval').body
        assert isinstance(call, ast.Call)
        if call.args:
            raise ValueError('settings need their names')
        settings = {str(keyword.arg): ast.literal_eval(keyword.value) for keyword in call.keywords}
    except (ValueError, SyntaxError) as error:
        raise InputError(
            f'--attention {text} cannot be read ({error}); it takes none, EAN, "EAN(groups=8)", "NAME=SE(ratio=16)" or '
            f'NAME=CONFIG.py'
        ) from error
    shown = Path(kind).stem if kind.endswith('.py') else kind
    details = '_'.join(f'{key}{value}' for key, value in settings.items())
    return Spec(name or re.sub(r'[^\w.+-]+', '-', '_'.join(filter(None, (shown, details)))).strip('-'), kind, settings)


def make_variants(config: Config, specs: Sequence[Spec], controls: Sequence[str] = ()) -> list[Variant]:
    """The networks of a comparison.

    Args:
        config: The config; attention in its backbone is taken out first.
        specs: The networks, the reference first.
        controls: Of :data:`CONTROLS`. ``'wider'`` is made for each module.

    Raises:
        InputError: A network can't be built, or two have one name.
    """
    plain = without_attention(config)
    variants = [Variant(spec.name, variant_config(plain, spec)) for spec in specs]
    modules = [spec for spec in specs if spec.kind != PLAIN and not spec.kind.endswith('.py')]
    if controls and not modules:
        raise InputError(f'--controls {" ".join(controls)} need a module in --attention to be controls of')
    for control in controls:
        if control == 'wider':
            for spec in modules:
                variants.append(Variant(f'wider-{spec.name}', wider(plain, variant_config(plain, spec)), True))
            continue
        placing = {key: value for key, value in modules[0].settings.items() if key in PLACING}
        settings = {'trained': control == 'constant', **placing}
        spec = Spec(control, 'ConstantMask', settings)
        variants.append(Variant(control, variant_config(plain, spec), True, CONTROLS[control]))
    names = [variant.name for variant in variants]
    for name in names:
        if names.count(name) > 1:
            raise InputError(f'two networks are called {name}; give them names: --attention A={name} B={name}(…)')
    return variants


def without_attention(config: Config) -> Config:
    """A config whose backbone has no attention.

    Raises:
        InputError: It has no backbone.
    """
    plain = copy.deepcopy(config)
    if 'backbone' not in plain.model:
        raise InputError(f'the model {plain.model.get("type")} of the config has no backbone to put attention in')
    backbone = plain.model.backbone
    if backbone.type == 'WithAttention':
        backbone = backbone.backbone
    elif backbone.type in ('EANResNet', 'EANMobileNeXt'):
        backbone.type = backbone.type.removeprefix('EAN')
        for key in ('groups', 'weight_norm'):
            backbone.pop(key, None)
    for key in ('attention', *PLACING):
        backbone.pop(key, None)
    plain.model.backbone = backbone
    return plain


def variant_config(plain: Config, spec: Spec) -> Config:
    """A config with attention in its backbone.

    Args:
        plain: The config without.
        spec: The module.

    Raises:
        InputError: The network can't be built.
    """
    if spec.kind == PLAIN:
        return _checked(copy.deepcopy(plain), spec.name)
    if spec.kind.endswith('.py'):
        return _checked(load_config(spec.kind), spec.name)
    placing = {key: value for key, value in spec.settings.items() if key in PLACING}
    settings = {key: value for key, value in spec.settings.items() if key not in PLACING}
    config = copy.deepcopy(plain)
    backbone, attention = config.model.backbone, dict(type=spec.kind, **settings)
    if 'attention' in inspect.signature(_class_of(config, backbone.type)).parameters:
        backbone.update(attention=attention, **placing)
    else:
        config.model.backbone = dict(type='WithAttention', backbone=backbone, attention=attention, **placing)
    return _checked(config, spec.name)


def wider(plain: Config, module: Config) -> Config:
    """A plain network of the nearest greater width to as many parameters as one with attention has.

    The layers behind the backbone take the new number of channels.

    Raises:
        InputError: Its backbone has none of the settings of a width that are known here.
    """
    backbone_class = _class_of(plain, plain.model.backbone.type)
    parameters = inspect.signature(backbone_class).parameters
    setting = next((name for name in WIDTHS if name in parameters), None)
    if setting is None:
        raise InputError(
            f'--controls wider: {plain.model.backbone.type} has none of {", ".join(WIDTHS)} to widen it by'
        )
    width = plain.model.backbone.get(setting, parameters[setting].default)
    target, least = parameter_count(module), parameter_count(plain)
    channels = _output_channels(plain)
    steps = [width * (1 + k / 400) for k in range(1, 201)]
    if setting == 'base_channels':
        steps = [width + k for k in range(1, 33)]
    best: tuple[int, Config] | None = None
    for value in steps:
        config = copy.deepcopy(plain)
        config.model.backbone[setting] = value
        new = _output_channels(config)
        for part in ('neck', 'bbox_head', 'rpn_head', 'head', 'decode_head'):
            if part in config.model:
                _replace_channels(config.model[part], channels, new)
        count = parameter_count(config)
        if count > least and (best is None or abs(count - target) < best[0]):
            best = (abs(count - target), config)
        if count > target:
            break
    if best is None:
        raise InputError(f'--controls wider: no {setting} near {width} gives more parameters')
    return best[1]


def parameter_count(config: Config) -> int:
    """Parameters of a config's model."""
    return sum(parameter.numel() for parameter in build_model(config).parameters())


def _class_of(config: Config, kind: str) -> Any:
    with MODELS.switch_scope_and_registry(config.get('default_scope', 'mmdet')) as registry:
        found = registry.get(kind)
    if found is None:
        raise InputError(f'there is no backbone {kind}')
    return found


def _checked(config: Config, name: str) -> Config:
    """The config, if its model can be built."""
    try:
        build_model(config)
    except (AssertionError, ImportError, KeyError, TypeError, ValueError) as error:
        raise InputError(f'--attention {name}: {" ".join(str(error).split())}') from error
    return config


@torch.no_grad()
def _output_channels(config: Config) -> list[int]:
    """Channels that a backbone gives."""
    with DefaultScope.overwrite_default_scope(config.get('default_scope', 'mmdet')):
        backbone = MODELS.build(config.model.backbone)
    backbone.eval()
    return [output.shape[1] for output in backbone(torch.zeros(1, 3, 64, 64))]


def _replace_channels(part: dict, before: list[int], after: list[int]) -> None:
    """Have a neck or a head take the channels that the backbone gives now."""
    for key in ('in_channels', 'out_channels'):
        value = part.get(key)
        if isinstance(value, (list, tuple)) and list(value[: len(before)]) == before:
            part[key] = [*after, *value[len(before) :]]
        elif key == 'in_channels' and value == before[-1]:
            part[key] = after[-1]
