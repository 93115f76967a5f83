"""Attention maps of trained EANs: which blocks use them, and what the network is without them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from ..attention.ean import EAN
from ..errors import InputError, near_names
from ..files import write_atomically
from ..ops.fold import Vectors, fold


@dataclass(frozen=True)
class MapStatistics:
    """Statistics of an EAN's attention map over some images.

    Attributes:
        name: Name of the EAN in the model.
        alpha: The learned α, one a channel of a group.
        delta: δ likewise.
        omega: γ / ‖γ‖ likewise.
        mean: The map's mean over images and pixels, one a channel.
        deviation: Its standard deviation over images and pixels, averaged over channels: 0 where nothing is gated.
        between: The standard deviation of ``mean`` over channels.
    """

    name: str
    alpha: Tensor
    delta: Tensor
    omega: Tensor
    mean: Tensor
    deviation: float
    between: float


def attention_map(ean: EAN, x: Tensor) -> Tensor:
    """Compute the attention map of an EAN over its input (AAAI 2024, Eq. 7 and 8), of its input's shape."""
    scale, shift = fold(Vectors(ean.weight, ean.bias, ean.alpha, ean.delta, ean.weight_norm), ean.eps)
    scale, shift = (vector.repeat(ean.groups).view(1, -1, 1, 1) for vector in (scale, shift))
    var, mean = torch.var_mean(x, (2, 3), correction=0, keepdim=True)
    return torch.sigmoid((x - mean) / torch.sqrt(var + ean.eps) * scale + shift)


def eans(model: nn.Module, names: Sequence[str] | None = None) -> dict[str, EAN]:
    """The EANs of a model by name.

    Args:
        model: The model.
        names: Which. Defaults to None, all.

    Raises:
        InputError: It has none, or none of a name.
    """
    found = {name: module for name, module in model.named_modules() if isinstance(module, EAN)}
    if not found:
        raise InputError(f'{type(model).__name__} has no EAN')
    for name in names or ():
        if name not in found:
            near = near_names(name, found, 4, 0.3) or list(found)
            raise InputError(f'the model has no EAN {name!r}; near are {", ".join(near)}')
    return {name: found[name] for name in names or found}


@torch.no_grad()
def map_statistics(model: nn.Module, run: Callable[[], Iterable[object]]) -> list[MapStatistics]:
    """Statistics of every EAN's map.

    Args:
        model: The model, in evaluation mode.
        run: Runs the model over the images.
    """
    found = eans(model)
    sums: dict[str, list[Any]] = {name: [0, torch.zeros(()), torch.zeros(())] for name in found}

    def note(name: str) -> Callable:
        def hook(module: EAN, args: tuple, output: Tensor) -> None:
            q = attention_map(module, args[0]).double()
            entry = sums[name]
            entry[0] += q.numel() // q.shape[1]
            entry[1], entry[2] = entry[1] + q.sum((0, 2, 3)), entry[2] + q.square().sum((0, 2, 3))

        return hook

    with contextlib.ExitStack() as stack:
        for name, ean in found.items():
            stack.callback(ean.register_forward_hook(note(name)).remove)
        for _ in run():
            pass
    statistics = []
    for name, ean in found.items():
        count, total, squares = sums[name]
        if not count:
            raise InputError(f'{name} was not used when the model ran')
        mean = total / count
        deviation = (squares / count - mean.square()).clamp_min(0).sqrt().mean().item()
        norm = fold(Vectors(ean.weight, torch.zeros_like(ean.bias), torch.ones_like(ean.alpha),
                            torch.zeros_like(ean.delta), ean.weight_norm), ean.eps)[0]  # fmt: skip
        alpha, delta, omega = (vector.detach().clone() for vector in (ean.alpha, ean.delta, norm / ean.weight))
        statistics.append(MapStatistics(name, alpha, delta, omega, mean.float(), deviation, mean.std().item()))
    return statistics


@contextlib.contextmanager
def maps_replaced(model: nn.Module, statistics: Sequence[MapStatistics], by: str) -> Iterator[None]:
    """Have every EAN multiply by a constant.

    Args:
        model: The model.
        statistics: Of its maps.
        by: ``'channel means'``, each channel's mean map, or ``'one mean'``, the mean over all channels.

    Raises:
        ValueError: ``by`` is unknown.
    """
    if by not in ('channel means', 'one mean'):
        raise ValueError(f"by must be 'channel means' or 'one mean', got {by!r}")
    found = eans(model)
    with contextlib.ExitStack() as stack:
        for entry in statistics:
            factor = entry.mean.view(1, -1, 1, 1) if by == 'channel means' else entry.mean.mean()
            hook = found[entry.name].register_forward_hook(lambda module, args, output, factor=factor: args[0] * factor)
            stack.callback(hook.remove)
        yield


@torch.no_grad()
def attention_maps(
    model: nn.Module, run: Callable[[], object], names: Sequence[str] | None = None
) -> dict[str, Tensor]:
    """Return the attention maps over one image, averaged over channels: (H, W) of each feature map, by the EAN's name.

    Args:
        model: The model, in evaluation mode.
        run: Runs the model over the image.
        names: EANs by name. Defaults to None: the last of each size of feature map.

    Raises:
        InputError: There is no EAN of a name.
    """
    found: dict[str, EAN] = eans(model, names)
    maps: dict[str, Tensor] = {}

    def note(name: str) -> Callable:
        def hook(module: EAN, args: tuple, output: Tensor) -> None:
            maps[name] = attention_map(module, args[0])[0].mean(0)

        return hook

    with contextlib.ExitStack() as stack:
        for name in found:
            stack.callback(found[name].register_forward_hook(note(name)).remove)
        run()
    if names:
        return {name: maps[name] for name in names}
    last = {tuple(q.shape): name for name, q in maps.items()}
    return {name: maps[name] for name in last.values()}


def write_overlays(path: Path, image: np.ndarray, maps: dict[str, Tensor], shares: tuple[float, float]) -> None:
    """Draw attention maps over their image, a panel each with its own scale, as maps are near ½ until they learn.

    Args:
        path: The picture.
        image: (H, W, 3), RGB.
        maps: Of :func:`attention_maps`.
        shares: Of the maps' height and width, what the image takes without its padding.

    Raises:
        InputError: The picture can't be written.
    """
    height, width = image.shape[:2]
    figure = Figure(figsize=(3.6 * (1 + len(maps)), 3.4 * height / width + 0.8), layout='constrained', dpi=110)
    axes = figure.subplots(1, 1 + len(maps))
    axes[0].imshow(image)
    axes[0].set_title(path.stem, fontsize=9)
    for axis, (name, q) in zip(axes[1:], maps.items()):
        rows, columns = q.shape
        axis.imshow(image.mean(2), cmap='gray')
        shown = axis.imshow(
            q.cpu().numpy(), cmap='viridis', alpha=0.6, interpolation='bilinear',
            extent=(-0.5, width / shares[1] - 0.5, height / shares[0] - 0.5, -0.5),
        )  # fmt: skip
        axis.set(xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5))
        axis.set_title(f'{name.removeprefix("backbone.")}, {rows} × {columns}', fontsize=9)
        figure.colorbar(shown, ax=axis, shrink=0.8, format='%.4f')
    for axis in axes:
        axis.axis('off')
    write_atomically(path, lambda partial: figure.savefig(partial, format=path.suffix[1:], dpi=130))


def write_picture(path: Path, statistics: Sequence[MapStatistics]) -> None:
    """α, δ and ω by block, and the maps' means and spreads."""
    positions = range(len(statistics))
    figure = Figure(figsize=(1.5 + 0.45 * len(statistics), 8), layout='constrained')
    axes = figure.subplots(4, sharex=True)
    for axis, name, symbol in zip(axes, ('alpha', 'delta', 'omega'), 'αδω'):
        axis.boxplot(
            [getattr(entry, name).numpy() for entry in statistics], positions=positions, widths=0.6, showfliers=False
        )
        axis.axhline(0, c='0.8', lw=0.8, zorder=0)
        axis.set_ylabel(symbol)
    means = [entry.mean.mean().item() for entry in statistics]
    axes[3].errorbar(positions, means, [entry.deviation for entry in statistics], fmt='o', ms=4, capsize=3)
    axes[3].axhline(0.5, c='0.8', lw=0.8, zorder=0)
    axes[3].set_ylabel('map: mean ± spread')
    axes[3].set_xticks(
        positions, [entry.name.removeprefix('backbone.') for entry in statistics], rotation=60, ha='right'
    )
    write_atomically(path, lambda partial: figure.savefig(partial, format=path.suffix[1:], dpi=130))
