"""A batch norm alone beside a batch norm and EAN as one operation, on maps where calls and planes cost, not pixels."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from ..attention.ean import EAN
from ..ops import batch_norm_gate
from ..table import Table
from .timing import LAYOUTS, interleave

# What MobileNeXt's EANs take in at 32 × 32, (C, H, W), groups 8.
MAPS = ((96, 8, 8), (192, 4, 4), (288, 2, 2), (384, 2, 2), (576, 1, 1), (1280, 1, 1))


def benchmark_small_maps(
    batch: int = 128, repeat: int = 30, progress: Callable[[str], None] = lambda line: None
) -> list[dict]:
    """Time both on a CPU in float32.

    Args:
        batch: Samples. Defaults to 128.
        repeat: Rounds, of which the median is taken. Defaults to 30.
        progress: Called with a line about each map done. Defaults to doing nothing.

    Returns:
        A row a map, layout and pass, ``'inference'`` or ``'training'`` (forward and backward): ``shape``, ``layout``,
        ``pass`` and the seconds of ``'norm'`` and ``'both'``.
    """
    rows = []
    for shape in MAPS:
        for layout in LAYOUTS:
            rows += _time_map((batch, *shape), layout, repeat)
        progress('×'.join(map(str, shape)))
    return rows


def _time_map(shape: tuple[int, int, int, int], layout: str, repeat: int) -> list[dict]:
    norm, ean = nn.BatchNorm2d(shape[1]), EAN(shape[1], 8)
    for parameter in ean.parameters():
        nn.init.normal_(parameter)
    z, grad = (torch.randn(shape).to(memory_format=LAYOUTS[layout]) for _ in range(2))
    leaf = z.detach().clone(memory_format=torch.preserve_format).requires_grad_()

    def both(z: Tensor) -> Tensor:
        return batch_norm_gate(
            z, norm.running_mean, norm.running_var, ean.alpha, ean.delta, ean.weight, ean.bias,
            norm_weight=norm.weight, norm_bias=norm.bias, training=norm.training,
        )  # fmt: skip

    forwards: dict[str, Callable] = {'norm': norm, 'both': both}

    def infer(forward: Callable) -> None:
        with torch.inference_mode():
            forward(z)

    def train(forward: Callable) -> None:
        forward(leaf).backward(grad)

    rows = []
    for pass_, run in (('inference', infer), ('training', train)):
        norm.train(pass_ == 'training')
        seconds = interleave(
            {name: partial(run, forward) for name, forward in forwards.items()}, torch.device('cpu'), repeat
        )
        rows.append({'shape': list(shape), 'layout': layout, 'pass': pass_, **seconds})
    return rows


def table(rows: list[dict]) -> Table:
    """Tabulate what :func:`benchmark_small_maps` returned."""
    by_map: dict[str, dict[str, str]] = {}
    for row in rows:
        cell = f'{1e6 * row["norm"]:.0f} → {1e6 * row["both"]:.0f} ({row["both"] / row["norm"]:.2f})'
        by_map.setdefault('×'.join(map(str, row['shape'])), {})[f'{row["pass"]}, {row["layout"]}'] = cell
    kinds = list(dict.fromkeys(kind for cells in by_map.values() for kind in cells))
    title = 'µs, batch norm → batch norm and EAN (ratio); training is forward and backward'
    return Table.of(title, ('feature map', *kinds), [(name, *map(cells.get, kinds)) for name, cells in by_map.items()])
