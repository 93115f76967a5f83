"""Whole backbones side by side: plain, and with each attention module, in time and in memory."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from inspect import signature
from pathlib import Path

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from mmengine.registry import MODELS
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..attention import MODULES
from ..attention.ean import EAN
from ..norms import ATTENTIVE_NORMS
from ..palette import COLOURS
from ..table import Table
from .benchmark_ops import PlainEAN
from .timing import DTYPES, LAYOUTS, environment, interleave, peak_memory, synchronize

# What a module needs said beside its channels and groups, for the paper's network.
OPTIONS: dict[str, dict[str, int]] = {'CA': dict(ratio=24)}


def resnet50(name: str) -> dict:
    """Config of a ResNet-50 with the module called ``name``, or ``'plain'``; all its layers learn."""
    common = dict(depth=50, norm_eval=False)
    if name == 'plain':
        return dict(type='mmdet.ResNet', **common)
    if name == 'EAN':
        return dict(type='EANResNet', groups=64, **common)
    if name == 'AN':
        return dict(type='ANResNet', **common)
    if _shared(name):
        plain = dict(type='mmdet.ResNet', **common)
        return dict(type='WithAttention', backbone=plain, attention=_module(name, 64), shared=_shared(name))
    return dict(type='mmdet.ResNet', plugins=[dict(cfg=_module(name, 64), position='after_conv3')], **common)


def mobilenext(name: str) -> dict:
    """Config of a MobileNeXt with the module called ``name``, or ``'plain'``."""
    if name == 'EAN':
        return dict(type='EANMobileNeXt', groups=8)
    if name == 'plain':
        return dict(type='MobileNeXt')
    return dict(type='MobileNeXt', attention=_module(name, 8), shared=_shared(name))


def _module(name: str, groups: int) -> dict:
    grouped = 'groups' in signature(MODULES[name]).parameters
    return dict(type=name, **(dict(groups=groups) if grouped else {}), **OPTIONS.get(name, {}))


def _shared(name: str) -> str | None:
    return 'stage' if hasattr(MODULES[name], 'begin') else None


# The network's config by the module's name, and the height and width of its images.
BACKBONES: dict[str, tuple[Callable[[str], dict], tuple[int, int]]] = {
    'resnet50': (resnet50, (800, 1216)),
    'mobilenext': (mobilenext, (320, 320)),
}
PLAIN = 'plain'
FORMULA = 'formula'  # EAN's network with the formula as the paper writes it, instead of EAN


def modules(backbone: str) -> list[str]:
    """Names of what can be compared in a backbone: ``'plain'``, and every attention module of the package.

    Norms with attention are defined for ResNet's bottlenecks alone.
    """
    norms = [norm.__name__ for norm in ATTENTIVE_NORMS] if backbone == 'resnet50' else []
    names = sorted([*MODULES, *norms], key=lambda name: (name != 'EAN', name.lower()))
    return [PLAIN, *names]


def benchmark(
    backbone: str = 'resnet50',
    names: Sequence[str] | None = None,
    shape: tuple[int, int] | None = None,
    device: str | torch.device = 'cpu',
    dtype: str = 'float32',
    layout: str = 'contiguous',
    batch: int = 1,
    repeat: int = 10,
    training: bool = True,
    compiled: bool = False,
    runtime: str = 'torch',
    progress: Callable[[str], None] = lambda line: None,
) -> dict:
    """Time a backbone plain and with attention modules, the networks taking turns, and measure their peak memory.

    Args:
        backbone: One of :data:`BACKBONES`. Defaults to ``'resnet50'``.
        names: Modules to compare, of :func:`modules`, or ``'formula'``, EAN step by step; ``'plain'`` is always among
            them. Defaults to None, all modules.
        shape: Height and width of the images. Defaults to None, those of :data:`BACKBONES`.
        device: Device to run on. Defaults to ``'cpu'``.
        dtype: ``'float32'``, or ``'float16'`` or ``'bfloat16'`` under autocast. Defaults to ``'float32'``.
        layout: ``'contiguous'`` or ``'channels_last'``, of the weights and the images. Defaults to ``'contiguous'``.
        batch: Images at a time. Defaults to 1.
        repeat: Rounds, of which the median is taken. Defaults to 10.
        training: Whether to time a training step too. Defaults to True.
        compiled: Whether to compile the networks with ``torch.compile``. Defaults to False.
        runtime: ``'torch'``, or one of :data:`RUNTIMES`: the networks exported as by ``tools/export.py``, inference
            alone, its memory not measured. Defaults to ``'torch'``.
        progress: Called with a line about what is done. Defaults to doing nothing.

    Returns:
        The ``environment``, the ``settings``, and ``rows``: for each network its ``name``, ``params``, and by pass,
        ``'inference'``, ``'training'`` and ``'training, norm_eval'`` (batch norms in evaluation mode, as detectors
        are fine-tuned), ``seconds`` a batch, ``ratio`` of its time to the plain network's,
        ``throughput`` in images a second and ``memory``, the peak in bytes beside weights and images. AN can't be
        trained on one image, so with a batch of 1 it has inference alone.
    """
    build, default_shape = BACKBONES[backbone]
    height, width = shape or default_shape
    chosen = [PLAIN, *(name for name in names or modules(backbone) if name != PLAIN)]
    device = torch.device(device)
    images = torch.randn(batch, 3, height, width, device=device).to(memory_format=LAYOUTS[layout])
    networks = {}
    for name in chosen:
        torch.manual_seed(0)
        network = MODELS.build(build('EAN' if name == FORMULA else name))
        network.init_weights()
        _leave_zero(network)
        if name == FORMULA:
            _replace_ean(network)
        networks[name] = network.to(device, memory_format=LAYOUTS[layout])
        if compiled:
            network.compile(fullgraph=True)
    rows = {
        name: dict(name=name, params=sum(p.numel() for p in network.parameters()), passes={})
        for name, network in networks.items()
    }
    passes: dict[str, Callable] = PASSES if training else {'inference': _inference}
    if runtime in RUNTIMES:
        passes = {'inference': RUNTIMES[runtime]}
    for pass_, prepare in passes.items():
        torch.compiler.reset()  # what was compiled for another pass counts against the limit of recompilations
        functions = {
            name: prepare(network, images, DTYPES[dtype])
            for name, network in networks.items()
            # AN's mixture weights go through a batch norm of one value an image
            if not (name == 'AN' and pass_ != 'inference' and batch == 1)
        }
        memory = {}
        for name, function in functions.items() if runtime == 'torch' else ():
            memory[name] = peak_memory(function, device)
            progress(f'{pass_}: {name}, peak memory {memory[name] / 2**20:.0f} MiB')
        synchronize(device)
        times = interleave(functions, device, repeat, progress=partial(_tell, progress, pass_, repeat, len(functions)))
        for name, seconds in times.items():
            rows[name]['passes'][pass_] = dict(
                seconds=seconds,
                ratio=seconds / times[PLAIN],
                throughput=batch / seconds,
            )
            if memory:
                rows[name]['passes'][pass_].update(memory=memory[name], memory_ratio=memory[name] / memory[PLAIN])
    settings = dict(
        backbone=backbone, shape=[height, width], device=str(device), dtype=dtype, layout=layout, batch=batch,
        repeat=repeat,         compiled=compiled, runtime=runtime,
    )  # fmt: skip
    return dict(environment=environment(device), settings=settings, rows=list(rows.values()))


@torch.no_grad()
def _leave_zero(network: nn.Module) -> None:
    """Random values for what starts at zero, as the last norm of a block and EAN's alpha do.

    Behind a zero gradients are subnormal numbers, for which CPUs take several times as long, or nothing at all.
    """
    for parameter in network.parameters():
        if not parameter.any():
            parameter.normal_(std=0.1)


def _replace_ean(network: nn.Module) -> None:
    for parent in list(network.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, EAN):
                setattr(parent, name, PlainEAN(child))


def _autocast(images: Tensor, dtype: torch.dtype) -> torch.autocast:
    return torch.autocast(images.device.type, dtype, enabled=dtype != torch.float32)


def _inference(network: nn.Module, images: Tensor, dtype: torch.dtype) -> Callable[[], object]:
    def run():
        network.eval()
        with torch.inference_mode(), _autocast(images, dtype):
            return network(images)

    return run


def _exported(network: nn.Module, images: Tensor, path: Path) -> None:
    from ..deploy import export_onnx
    from ..deploy.networks import Features
    from ..deploy.onnx_export import folded

    export_onnx(Features(folded(network)), (images.shape[2], images.shape[3]), path, {})


def _onnxruntime(network: nn.Module, images: Tensor, dtype: torch.dtype) -> Callable[[], object]:
    """The exported network, on as many threads as PyTorch has."""
    from ..deploy import load_exported

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, 'backbone.onnx')
        _exported(network, images, path)
        session, _ = load_exported(path)
    array = images.contiguous().numpy()
    return lambda: session.run(None, dict(images=array))


def _openvino(network: nn.Module, images: Tensor, dtype: torch.dtype) -> Callable[[], object]:
    """The exported network, on as many threads as PyTorch has."""
    import openvino

    core = openvino.Core()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, 'backbone.onnx')
        _exported(network, images, path)
        model = core.read_model(path)
    array = images.contiguous().numpy()
    model.reshape(list(array.shape))
    options = dict(INFERENCE_NUM_THREADS=torch.get_num_threads(), PERFORMANCE_HINT='LATENCY')
    request = core.compile_model(model, 'CPU', {**options, 'INFERENCE_PRECISION_HINT': 'f32'}).create_infer_request()
    return lambda: request.infer({0: array}, share_inputs=True, share_outputs=True)


RUNTIMES: dict[str, Callable] = {'onnxruntime': _onnxruntime, 'openvino': _openvino}


def _training(network: nn.Module, images: Tensor, dtype: torch.dtype, norm_eval: bool = False) -> Callable[[], object]:
    """A step of SGD with momentum, the loss being the mean square of the features."""
    norms = [module for module in network.modules() if isinstance(module, _BatchNorm)] if norm_eval else []
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-6, momentum=0.9)

    def run():
        network.train()
        for norm in norms:
            norm.eval()
        optimizer.zero_grad(set_to_none=True)
        with _autocast(images, dtype):
            features = network(images)
        sum(feature.float().square().mean() for feature in features).backward()
        optimizer.step()

    return run


PASSES: dict[str, Callable] = {
    'inference': _inference,
    'training': _training,
    'training, norm_eval': partial(_training, norm_eval=True),
}


def tables(result: dict) -> list[Table]:
    """Tabulate what :func:`benchmark` returned: a table a pass."""
    settings, by_pass = result['settings'], []
    runtime = f'{settings["runtime"]}, ' if settings.get('runtime') in RUNTIMES else ''
    shape = '×'.join(map(str, (settings['batch'], 3, *settings['shape'])))
    header = ('attention', 'params, M', 'ms', 'of plain', 'images/s', 'of plain', 'peak MiB', 'of plain')
    for pass_ in result['rows'][0]['passes']:
        cells = []
        for row in result['rows']:
            figures = row['passes'].get(pass_)
            if figures:
                memory = ('–', '–')
                if 'memory' in figures:
                    memory = (f'{figures["memory"] / 2**20:.0f}', f'{figures["memory_ratio"]:.3f}')
                speed = (f'{1e3 * figures["seconds"]:.1f}', f'{figures["ratio"]:.3f}', f'{figures["throughput"]:.2f}')
                cells.append((row['name'], f'{row["params"] / 1e6:.4f}', *speed, 1 / figures['ratio'], *memory))
        title = (
            f'{settings["backbone"]}, {pass_}: {shape}, {settings["dtype"]}, {settings["layout"]}, '
            f'{"compiled, " if settings["compiled"] else ""}{runtime}{result["environment"]["device"]}'
        )
        note = f'Medians of {settings["repeat"]} rounds in which the networks took turns.'
        by_pass.append(Table.of(title, header, cells, [note]))
    return by_pass


def plot(result: dict, path: Path) -> None:
    """Draw speed against parameters, a panel a pass, into a picture file."""
    passes = list(result['rows'][0]['passes'])
    figure = Figure(figsize=(5.5 * len(passes), 4.6), layout='constrained')
    settings = result['settings']
    figure.suptitle(
        f'{settings["backbone"]}, {settings["batch"]} × {settings["shape"][0]} × {settings["shape"][1]}, '
        f'{settings["dtype"]}, {settings["layout"]}\n{result["environment"]["device"]}',
        fontsize=10,
    )
    for axes, pass_ in zip(figure.subplots(1, len(passes), squeeze=False)[0], passes):
        _draw(axes, result['rows'], pass_)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)


def _draw(axes: Axes, rows: list[dict], pass_: str) -> None:
    points = [
        (row['params'] / 1e6, row['passes'][pass_]['throughput'], row['name']) for row in rows if pass_ in row['passes']
    ]
    plain = next(speed for _, speed, name in points if name == PLAIN)
    axes.axhline(plain, color='0.6', linewidth=1, linestyle='--', zorder=0)
    width = max(points)[0] - min(points)[0] or 1
    # Modules without parameters to speak of stand in one column: names that would cover each other move down.
    for column in _columns(points, gap=width / 4):
        height = float('inf')
        for params, speed, name in sorted(column, key=lambda point: -point[1]):
            color = {'EAN': COLOURS[1], PLAIN: COLOURS[-1]}.get(name, COLOURS[0])
            axes.scatter(params, speed, color=color, s=45 if name in ('EAN', PLAIN) else 28, zorder=2)
            height = min(speed, height - 0.05 * plain)
            axes.annotate(
                name,
                (params, speed),
                xytext=(max(column)[0] + 0.06 * width, height),
                va='center',
                color=color,
                fontsize=9,
                fontweight='bold' if name == 'EAN' else None,
                bbox=dict(facecolor='white', edgecolor='none', pad=1),
                arrowprops=dict(arrowstyle='-', color='0.7', linewidth=0.6),
            )
    axes.margins(0.18)
    axes.set_ylim(bottom=0)
    axes.set_title(pass_)
    axes.set_xlabel('parameters (M)')
    axes.set_ylabel('images / s')
    axes.grid(alpha=0.25)


def _tell(progress: Callable[[str], None], pass_: str, repeat: int, networks: int, rounds: int) -> None:
    progress(f'{pass_}: {rounds} of {repeat} rounds of {networks} networks')


def _columns(points: list[tuple[float, float, str]], gap: float) -> list[list[tuple[float, float, str]]]:
    """Points (parameters, speed, name), apart where their parameters are more than ``gap`` apart."""
    columns: list[list[tuple[float, float, str]]] = []
    for point in sorted(points):
        if not columns or point[0] - columns[-1][-1][0] > gap:
            columns.append([])
        columns[-1].append(point)
    return columns
