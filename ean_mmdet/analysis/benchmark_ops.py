"""EAN as one operation beside the plain formula, as published and compiled, on the feature maps of real networks."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from statistics import geometric_mean

import torch
import torch._functorch.config
import torch.nn.functional as F
from torch import Tensor, nn

from ..attention.ean import EAN
from ..table import Table
from .timing import DTYPES, LAYOUTS, environment, interleave, kept_memory, peak_memory

# What EAN takes in, (C, H, W), and its groups.
NETWORKS = {
    'ResNet-50 at 800×1216': (64, ((256, 200, 304), (512, 100, 152), (1024, 50, 76), (2048, 25, 38))),
    'MobileNeXt at 320×320': (
        8,
        (
            (96, 80, 80), (144, 80, 80), (192, 40, 40), (288, 20, 20),
            (384, 20, 20), (576, 10, 10), (960, 10, 10), (1280, 10, 10),
        ),
    ),
}  # fmt: skip
# Reads and writes of a whole feature map that the operation can't do without; a copy has two.
TRANSFERS = {'inference': 2, 'backward': 3, 'forward + backward': 5}


class PlainEAN(nn.Module):
    """EAN step by step as the paper writes it (Eq. 5 to 9), with the parameters of an :class:`.EAN`."""

    def __init__(self, ean: EAN) -> None:
        super().__init__()
        self.groups, self.eps = ean.groups, ean.eps
        self.weight, self.bias, self.alpha, self.delta = (
            copy.deepcopy(p) for p in (ean.weight, ean.bias, ean.alpha, ean.delta)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Gate ``x`` of shape (N, C, H, W), step by step."""
        grouped = x.reshape(x.shape[0] * self.groups, -1, *x.shape[2:])
        vector = (1, -1, 1, 1)
        normalized = F.group_norm(grouped, grouped.shape[1], self.weight, self.bias, self.eps)
        importance = self.weight / (self.weight.square().sum() + self.eps).sqrt()
        weighted = importance.view(vector) * normalized
        attention = (self.alpha.view(vector) * weighted + self.delta.view(vector)).sigmoid()
        return (attention.to(x.dtype) * grouped).reshape(x.shape)


def benchmark_ops(
    device: str | torch.device = 'cpu',
    dtype: str = 'float32',
    layout: str = 'contiguous',
    batch: int = 1,
    repeat: int = 30,
    compiled: bool = True,
    networks: Sequence[str] = tuple(NETWORKS),
    progress: Callable[[str], None] = lambda line: None,
) -> dict:
    """Time EAN, its plain formula and that under ``torch.compile``, and count their memory.

    Args:
        device: Device to run on. Defaults to ``'cpu'``.
        dtype: Type of the feature maps, ``'float32'``, ``'float16'`` or ``'bfloat16'``; parameters are float32.
            Defaults to ``'float32'``.
        layout: ``'contiguous'`` or ``'channels_last'``. Defaults to ``'contiguous'``.
        batch: Samples. Defaults to 1.
        repeat: Rounds, of which the median is taken. Defaults to 30.
        compiled: Whether to time the plain formula under ``torch.compile`` too. Defaults to True.
        networks: Networks whose feature maps are taken, of :data:`NETWORKS`. Defaults to all.
        progress: Called with a line about each feature map done. Defaults to doing nothing.

    Returns:
        The ``environment``, the ``settings``, ``rows`` with the times in seconds of a feature map and pass, their
        ratios to EAN's, ``copy_share``, the share of a copy's speed a transfer that EAN reaches, and memory in bytes;
        and ``means``, the geometric means.
    """
    device = torch.device(device)
    rows = []
    for network in networks:
        groups, shapes = NETWORKS[network]
        for shape in shapes:
            rows += _benchmark_shape(network, (batch, *shape), groups, device, dtype, layout, repeat, compiled)
            ratio = ', '.join(f'{row["pass"]} {row["ratio"]["plain"]:.2f}' for row in rows[-len(TRANSFERS) :])
            progress(f'{network}, {"×".join(map(str, (batch, *shape)))}: times as fast as plain: {ratio}')
    return dict(
        environment=environment(device),
        settings=dict(device=str(device), dtype=dtype, layout=layout, batch=batch, repeat=repeat),
        rows=rows,
        means=_means(rows),
    )


def _benchmark_shape(network, shape, groups, device, dtype, layout, repeat, compiled):
    x, grad = (torch.randn(shape, device=device).to(DTYPES[dtype], memory_format=LAYOUTS[layout]) for _ in range(2))
    ean = EAN(shape[1], groups).to(device)
    with torch.no_grad():
        for parameter in ean.parameters():
            parameter.normal_()
    modules = {'plain': PlainEAN(ean), 'EAN': ean}
    if compiled:
        torch.compiler.reset()
        # so that one graph can be run backward again and again
        torch._functorch.config.donated_buffer = False
        modules['compiled'] = torch.compile(PlainEAN(ean), dynamic=False)
    _check_equal(modules, x, grad)

    leaves = {name: x.detach().requires_grad_() for name in modules}
    inputs = {name: (leaves[name], *module.parameters()) for name, module in modules.items()}
    graphs = {name: module(leaves[name]) for name, module in modules.items()}

    def inference(name):
        with torch.inference_mode():
            return modules[name](x)

    def training(name):
        return torch.autograd.grad(modules[name](leaves[name]), inputs[name], grad)

    def backward(name):
        # What is compiled for one backward pass can't be run twice on one graph.
        return torch.autograd.grad(graphs[name], inputs[name], grad, retain_graph=True)

    passes = {'inference': inference, 'backward': backward, 'forward + backward': training}
    memory = {}
    for name in modules:
        memory[name] = dict(
            kept=kept_memory(lambda name=name: modules[name](leaves[name])),
            peak=peak_memory(lambda name=name: training(name), device),
        )
    rows = []
    for pass_, run in passes.items():
        functions = {name: lambda name=name, run=run: run(name) for name in modules}
        times = interleave({**functions, 'copy': x.clone}, device, repeat)
        copy_time = times.pop('copy')
        rows.append(
            {
                'network': network,
                'shape': list(shape),
                'pass': pass_,
                'seconds': times,
                'copy': copy_time,
                'copy_share': TRANSFERS[pass_] / 2 * copy_time / times['EAN'],
                'ratio': {name: seconds / times['EAN'] for name, seconds in times.items() if name != 'EAN'},
                'memory': memory,
                'map': x.numel() * x.element_size(),
            }
        )
    return rows


def _check_equal(modules, x, grad):
    """Only the same results are worth comparing in speed."""
    tolerance = 20 * torch.finfo(x.dtype).eps
    results = {}
    for name, module in modules.items():
        leaf = x.detach().requires_grad_()
        y = module(leaf)
        results[name] = (y.detach(), torch.autograd.grad(y, leaf, grad)[0])
    for name, result in results.items():
        for mine, theirs in zip(results['EAN'], result):
            error = (mine.double() - theirs.double()).norm() / theirs.double().norm()
            if not error <= tolerance:
                raise RuntimeError(f'EAN and its {name} formula differ by {error:.1e} at {tuple(x.shape)}')


def _means(rows):
    """Geometric means of the ratios and of the share of a copy's speed, by pass, over each network and over all."""
    means = {}
    for pass_ in TRANSFERS:
        networks = list(dict.fromkeys(row['network'] for row in rows))
        means[pass_] = {}
        for network in (*networks, 'all'):
            chosen = [row for row in rows if row['pass'] == pass_ and network in (row['network'], 'all')]
            means[pass_][network] = {
                **{name: geometric_mean(row['ratio'][name] for row in chosen) for name in chosen[0]['ratio']},
                'slowest': min(row['ratio']['plain'] for row in chosen),
                'copy_share': geometric_mean(row['copy_share'] for row in chosen),
            }
    return means


def tables(result: dict) -> list[Table]:
    """Tabulate what :func:`benchmark_ops` returned: a table a pass, and one of memory."""
    settings, rows = result['settings'], result['rows']
    others = list(rows[0]['ratio'])
    header = (
        'network', 'feature map', *(f'{name}, ms' for name in (*others, 'EAN', 'copy')),
        *(f'{name} / EAN' for name in others), 'of copy speed',
    )  # fmt: skip

    def mean(network: str, means: dict) -> tuple[str, ...]:
        return network, 'geometric mean', *[''] * (len(others) + 2), *_ratios(others, means, means['copy_share'])

    by_pass = []
    for pass_, transfers in TRANSFERS.items():
        cells = []
        for network in dict.fromkeys(row['network'] for row in rows):
            mine = [row for row in rows if (row['network'], row['pass']) == (network, pass_)]
            for row in mine:
                times = [*(row['seconds'][name] for name in (*others, 'EAN')), row['copy']]
                cells.append(
                    (
                        network,
                        '×'.join(map(str, row['shape'])),
                        *_times(times),
                        *_ratios(others, row['ratio'], row['copy_share']),
                    )
                )
            cells.append(mean(network, result['means'][pass_][network]))
        cells.append(mean('all', result['means'][pass_]['all']))
        title = f'{pass_}: {settings["dtype"]}, {settings["layout"]}, {result["environment"]["device"]}'
        note = f'Medians of {settings["repeat"]} rounds; copy speed: of the {transfers} transfers needed.'
        by_pass.append(Table.of(title, header, cells, [note]))
    return [*by_pass, _memory_table(rows)]


def _times(seconds: list[float]) -> list[str]:
    return [f'{1e3 * value:.3f}' for value in seconds]


def _ratios(others: list[str], ratios: dict, share: float) -> list[str]:
    return [*(f'{ratios[name]:.2f}' for name in others), f'{share:.0%}']


def _memory_table(rows: list[dict]) -> Table:
    columns = [(name, what) for what in ('kept', 'peak') for name in rows[0]['memory']]
    cells = [
        ('×'.join(map(str, row['shape'])), *(f'{row["memory"][name][what] / row["map"]:.2f}' for name, what in columns))
        for row in rows
        if row['pass'] == 'inference'
    ]
    note = 'Kept: what autograd keeps for the gradient; peak: the most allocated at a time, beside the input.'
    header = ('feature map', *(f'{name}, {what}' for name, what in columns))
    return Table.of('Memory of a forward and backward pass, in feature maps', header, cells, [note])
