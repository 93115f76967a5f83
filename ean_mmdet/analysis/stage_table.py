"""Costs of each stage of a config's model, as a table."""

from __future__ import annotations

from mmengine.config import Config

from ..engine import build_model, input_shape
from ..table import Table
from .complexity import Complexity, count_model, stage_names


def stage_table(config: Config, title: str, shape: tuple[int, int] | None = None) -> Table:
    """Tabulate the costs of each stage of a config's model for one image, and those of its attention.

    Args:
        config: The config, of any OpenMMLab library.
        title: Name of the model.
        shape: Height and width of the image. Defaults to None, what the config tests on.
    """
    shape = shape or input_shape(config)
    model = build_model(config)
    counter = count_model(model, shape)
    total = counter.count()
    rows = [_stage_cells(counter.count(name), name) for name in stage_names(model)]
    notes = [
        f'{kind} × {number}{_shared(total, kind)}: the attention adds {total.attention_params:,} parameters '
        f'({total.attention_params / (total.params - total.attention_params):.3%}) and '
        f'{total.attention_operations:,} operations '
        f'({total.attention_operations / (total.operations - total.attention_operations):.3%}).'
        for kind, number in total.attention.items()
    ]
    if len(total.attention) > 1:
        notes.append('Each of these lines is about all attention modules together.')
    if total.uncounted:
        notes.append(f'No rule counts the operations of {", ".join(total.uncounted)}, beside those of its layers.')
    header = (
        'Stage',
        'Output',
        'Params',
        'Operations (M)',
        'Activations (M)',
        'Attention: params',
        'Attention: operations (M)',
    )
    return Table(
        f'{title}, {shape[0]} × {shape[1]}', header, (*rows, _stage_cells(total, 'total', output='')), tuple(notes)
    )


def _shared(total: Complexity, kind: str) -> str:
    """Count the uses of modules of a type, where blocks share them."""
    uses = total.attention_uses.get(kind, 0)
    return f', shared by {uses} blocks' if uses > total.attention[kind] else ''


def _stage_cells(complexity: Complexity, name: str, output: str | None = None) -> tuple[str, ...]:
    if output is None:
        output = ' × '.join(str(side) for side in complexity.output or ())
    return (
        name,
        output,
        f'{complexity.params:,}',
        f'{complexity.operations / 1e6:,.3f}',
        f'{complexity.activations / 1e6:,.3f}',
        f'{complexity.attention_params:,}',
        f'{complexity.attention_operations / 1e6:,.3f}',
    )
