"""Attention in any OpenMMLab backbone, in a config: :func:`ean_mmdet.attach` by name."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

from mmengine.registry import MODELS
from torch import nn

from ..insertion import Position
from ..insertion.attach import builder, insert
from ..insertion.connections import check_state
from ..insertion.positions import find_positions


@MODELS.register_module('WithAttention')
def with_attention(
    backbone: dict,
    attention: dict,
    after: str | Sequence[str] = 'auto',
    shared: str | None = None,
    connections: Sequence[int] | None = None,
    **others,
) -> nn.Module:
    r"""Build a backbone and insert an attention module after every module that ``after`` names.

    What comes back is the backbone itself, of its own class and with its own keys, so that its pretrained checkpoints
    load. Positions, names and sharing are those of :func:`ean_mmdet.attach`, and so are ``after``'s patterns: each is
    a regular expression for whole names, as ``backbone.named_modules()`` gives them.

    Args:
        backbone: Config of the backbone, ``dict(type='mmpretrain.ShuffleNetV2', widen_factor=1.0)``.
        attention: Config of the attention module, ``dict(type='EAN', groups=8)``. Its ``in_channels`` are filled in,
            and ``groups`` where it isn't given.
        after: ``'auto'``, the paper's positions; or a regular expression, or several, such as
            ``r'layer[34]\.\d+\.bn3'``, ``r'.*\.depthwise_conv\.bn'`` or ``['stage2.1.final_conv.bn']``.
            Defaults to ``'auto'``.
        shared: ``'stage'``: one module for all positions of a stage that have the same channels, the first position's.
            None: each position has its own. Defaults to None.
        connections: A 0 or 1 for each position, in their order: whether it has attention. Defaults to None, all.
        **others: None; what is here comes from the base of a config that lacks ``_delete_=True``.

    Returns:
        The backbone.

    Raises:
        ValueError: As :func:`ean_mmdet.attach`; or options of another backbone were inherited.

    Example:
        >>> backbone = dict(
        ...     _delete_=True,  # where a base config has a backbone
        ...     type='WithAttention',
        ...     backbone=dict(type='mmpretrain.MobileNetV3', arch='small'),
        ...     attention=dict(type='EAN', groups=8),
        ... )
        >>> backbone.update(after=r'layer\d+\.linear_conv\.bn')  # instead of the paper's position
    """
    if others:
        raise ValueError(
            f'WithAttention: got {", ".join(others)} beside its own options: the config inherits them from its base. '
            f"Write backbone=dict(_delete_=True, type='WithAttention', backbone=dict(type=…, …), "
            f'attention=dict(type=…)), with the options of the base inside'
        )
    network: Any = MODELS.build(backbone)
    places = find_positions(network, after, 'WithAttention')
    build = gate_builder(attention, places, 'WithAttention', shared, bool(backbone.get('with_cp')))
    insert(network, places, build, shared, connections, 'WithAttention')
    network.train(network.training)  # where backbones freeze their stages
    return network


def gate_builder(
    attention: dict, places: Sequence[Position], caller: str, shared: str | None, with_cp: bool
) -> Callable[[Position], nn.Module]:
    """Return a function that builds the attention module of a position from a config.

    Raises:
        KeyError: Its type is unknown.
        ValueError: It is no plugin layer ``Name(in_channels, …)``, as a norm isn't; it carries state from block to
            block, and blocks don't share it, or gradient checkpointing would run them out of order.
    """
    options = dict(attention)
    kind = options.pop('type')
    layer = MODELS.get(kind) if isinstance(kind, str) else kind
    if layer is None:
        raise KeyError(f'{caller}: {kind} is not in the registry of models')
    parameters = inspect.signature(layer).parameters
    if 'in_channels' not in parameters and all(p.kind is not p.VAR_KEYWORD for p in parameters.values()):
        raise ValueError(
            f'{caller}: {kind} takes no in_channels, so it is no layer that gates a feature map, as EAN is. '
            f"A norm with attention replaces other norms instead: norm_cfg=dict(type='AN', num_mixtures=10), or "
            f"backbone=dict(type='ANResNet')"
        )
    check_state(caller, shared, layer)
    if with_cp and hasattr(layer, 'begin'):
        raise ValueError(
            f'{caller}: {layer.__name__} carries state from block to block, which with_cp=True would run again; '
            f'set with_cp=False'
        )
    return builder(layer, options, places)
