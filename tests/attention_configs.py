"""Configs of every attention module of the package, for networks of few channels."""

from inspect import signature

from ean_mmdet.attention import MODULES

# Where fours do not do: ELA's numbers are in its variant.
OTHERS = {'ELA': dict(variant=(7, 8, 8))}


def attention_config(name: str, few: int = 4) -> dict:
    """Config of a module with ``few`` groups and, where it has hidden layers, a quarter of the channels in them."""
    arguments = signature(MODULES[name]).parameters
    options = {argument: few for argument in ('groups', 'ratio') if argument in arguments}
    return dict(type=name, **options, **OTHERS.get(name, {}))


def shared(name: str) -> str | None:
    """How the blocks of a network share the module."""
    return 'stage' if hasattr(MODULES[name], 'begin') else None
