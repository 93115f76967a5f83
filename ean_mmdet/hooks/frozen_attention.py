"""Attention that can never learn: frozen while it does nothing yet, or something random."""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor, nn

from ..checkpoint import is_loaded
from ..insertion import constant_map


def frozen_attention(model: nn.Module, groups: Iterable[dict]) -> str | None:
    """Name the attention modules that training leaves at an untrained start.

    Args:
        model: A model as it is before the first step.
        groups: The parameter groups of its optimizers. A parameter that is in none, that is in one with a learning rate
            of 0, or that needs no gradient is frozen.

    Returns:
        One line that names the modules whose parameters are all frozen while their attention map is one constant, or,
        where a checkpoint gave other weights of the model, while no checkpoint gave theirs; and what to do. None where
        there are none.
    """
    rates = {id(p): group.get('initial_lr', group.get('lr', 0)) for group in groups for p in group['params']}
    pretrained = any(is_loaded(parameter) for parameter in model.parameters())
    stuck: dict[str, str] = {}
    modules = [(name, module) for name, module in model.named_modules() if hasattr(module, 'gate_layers')]
    causes = set()
    for name, module in modules:
        parameters = list(module.parameters())
        if not parameters or any(p.requires_grad and rates.get(id(p)) for p in parameters):
            continue
        constant = _constant(module)
        if constant is not None:
            stuck[name] = f'at a constant map of {constant:g}'
        elif pretrained and not any(is_loaded(parameter) for parameter in parameters):
            stuck[name] = 'at random weights in a network that is otherwise pretrained'
        else:
            continue
        causes |= {_cause(parameter, rates) for parameter in parameters}
    if not stuck:
        return None
    names, states = list(stuck), ' or '.join(dict.fromkeys(stuck.values()))
    shown = ', '.join(names[:3]) + (f' and {len(names) - 3} more' if len(names) > 3 else '')
    return (
        f'{len(stuck)} of {len(modules)} attention modules can never learn: {shown} stay {states}, as {_join(causes)}. '
        f'Train them ({_join(_REMEDIES[cause] for cause in causes)}), leave them out, or load a checkpoint in which '
        f'they were trained'
    )


def _constant(module: nn.Module) -> float | None:
    try:
        return constant_map(module, int(module.in_channels))  # type: ignore[arg-type]
    except (AttributeError, RuntimeError, TypeError, ValueError):
        return None  # a module of one's own that says no channels, or takes only maps of some size


_FROZEN, _ZERO, _ABSENT = 'they need no gradient', 'their learning rate is 0', 'no optimizer has them'
_REMEDIES = {
    _FROZEN: 'a smaller frozen_stages, or requires_grad_(True)',
    _ZERO: 'no lr_mult of 0 in optim_wrapper.paramwise_cfg, and a learning rate above 0',
    _ABSENT: 'an optimizer with all of the parameters',
}


def _cause(parameter: Tensor, rates: dict[int, float]) -> str:
    if not parameter.requires_grad:
        return _FROZEN
    return _ZERO if id(parameter) in rates else _ABSENT


def _join(parts: Iterable[str]) -> str:
    return ' and '.join(sorted(parts))
