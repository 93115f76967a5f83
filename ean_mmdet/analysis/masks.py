"""What the masks of trained EANs do: which blocks use their attention, and what the network is without the gating."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from ..attention import EAN
from ..errors import InputError
from ..ops.fold import Vectors, fold


@dataclass(frozen=True)
class MaskStatistics:
    """What an EAN's mask is over some images.

    Attributes:
        name: Name of the EAN in the model.
        alpha: The learned α, one a channel of a group.
        delta: δ likewise.
        omega: γ / ‖γ‖ likewise.
        mean: The mask's mean over images and pixels, one a channel.
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


def mask(ean: EAN, x: Tensor) -> Tensor:
    """The mask of an EAN over its input (Li, Li and Wen, AAAI 2024, Eq. 7 and 8), of its input's shape."""
    scale, shift = fold(Vectors(ean.weight, ean.bias, ean.alpha, ean.delta, ean.weight_norm), ean.eps)
    scale, shift = (vector.repeat(ean.groups).view(1, -1, 1, 1) for vector in (scale, shift))
    var, mean = torch.var_mean(x, (2, 3), correction=0, keepdim=True)
    return torch.sigmoid((x - mean) / torch.sqrt(var + ean.eps) * scale + shift)


def eans(model: nn.Module) -> dict[str, EAN]:
    """The EANs of a model by name.

    Raises:
        InputError: It has none.
    """
    found = {name: module for name, module in model.named_modules() if isinstance(module, EAN)}
    if not found:
        raise InputError(f'{type(model).__name__} has no EAN')
    return found


@torch.no_grad()
def mask_statistics(model: nn.Module, run: Callable[[], Iterable[object]]) -> list[MaskStatistics]:
    """Statistics of every EAN's mask.

    Args:
        model: The model, in evaluation mode.
        run: Runs the model over the images.
    """
    found = eans(model)
    sums = {name: [0, torch.zeros(()), torch.zeros(())] for name in found}

    def note(name: str) -> Callable:
        def hook(module: EAN, args: tuple, output: Tensor) -> None:
            q = mask(module, args[0]).double()
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
        omega = norm / ean.weight
        vectors = (vector.detach().clone() for vector in (ean.alpha, ean.delta, omega))
        statistics.append(MaskStatistics(name, *vectors, mean.float(), deviation, mean.std().item()))
    return statistics


@contextlib.contextmanager
def masks_replaced(model: nn.Module, statistics: Sequence[MaskStatistics], by: str) -> Iterator[None]:
    """Have every EAN multiply by a constant.

    Args:
        model: The model.
        statistics: Of its masks.
        by: ``'channel means'``, each channel's mean mask, or ``'one mean'``, the mean over all channels.

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


def write_picture(path: Path, statistics: Sequence[MaskStatistics]) -> None:
    """α, δ and ω by block, and the masks' means and spreads."""
    from matplotlib.figure import Figure

    places = range(len(statistics))
    figure = Figure(figsize=(1.5 + 0.45 * len(statistics), 8), layout='constrained')
    axes = figure.subplots(4, sharex=True)
    for axis, name, symbol in zip(axes, ('alpha', 'delta', 'omega'), 'αδω'):
        axis.boxplot(
            [getattr(entry, name).numpy() for entry in statistics], positions=places, widths=0.6, showfliers=False
        )
        axis.axhline(0, c='0.8', lw=0.8, zorder=0)
        axis.set_ylabel(symbol)
    means = [entry.mean.mean().item() for entry in statistics]
    axes[3].errorbar(places, means, [entry.deviation for entry in statistics], fmt='o', ms=4, capsize=3)
    axes[3].axhline(0.5, c='0.8', lw=0.8, zorder=0)
    axes[3].set_ylabel('mask: mean ± spread')
    axes[3].set_xticks(places, [entry.name.removeprefix('backbone.') for entry in statistics], rotation=60, ha='right')
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=130)
    except OSError as error:
        raise InputError(f'{path} cannot be written: {error}') from error
