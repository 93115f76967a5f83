"""Files of a search: every scheme seen, the config of the best, and a picture."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import InputError
from ..files import write_text
from ..palette import COLOURS


@dataclass(frozen=True)
class Seen:
    """A scheme that was evaluated.

    Attributes:
        scheme: A 0 or 1 a block.
        accuracy: Its metric in the supernet, in percent.
        reward: The accuracy and what sparsity adds.
    """

    scheme: tuple[int, ...]
    accuracy: float
    reward: float


def write_config(path: Path, base: Path, found: Seen, note: str) -> None:
    """A config that inherits the user's and trains the found network from scratch."""
    relative = os.path.relpath(base, path.parent)
    write_text(
        path,
        f'# {note}\n_base_ = {relative!r}\n\n'
        f"model = dict(backbone=dict(shared='stage', connections={list(found.scheme)}))\n",
    )


def front(seen: Sequence[Seen]) -> list[Seen]:
    """The schemes that no other one beats with as few connections or fewer."""
    best, result = float('-inf'), []
    for entry in sorted(seen, key=lambda entry: (sum(entry.scheme), -entry.accuracy)):
        if entry.accuracy > best:
            best = entry.accuracy
            result.append(entry)
    return result


def write_picture(path: Path, seen: Sequence[Seen], found: Seen, blocks: Sequence[str], metric: str) -> None:
    """Accuracy against the number of connections, the front and the found scheme; below it which blocks are on."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 5.2), layout='constrained')
    upper, lower = figure.subplots(2, height_ratios=(5, 1))
    upper.scatter([sum(s.scheme) for s in seen], [s.accuracy for s in seen], s=14, c='0.65', label='evaluated')
    best = front(seen)
    upper.plot([sum(s.scheme) for s in best], [s.accuracy for s in best], 'o-', ms=4, c=COLOURS[0], label='front')
    upper.plot(sum(found.scheme), found.accuracy, '*', ms=16, c=COLOURS[1], label='found')
    upper.set(xlabel='connections', ylabel=f'{metric} in the supernet, %')
    upper.xaxis.get_major_locator().set_params(integer=True)
    upper.legend(frameon=False)
    lower.imshow([found.scheme], cmap='Reds', vmin=0, vmax=1.3, aspect='auto')
    lower.set_xticks(range(len(blocks)), blocks, rotation=60, ha='right', fontsize=7)
    lower.set_yticks([])
    lower.set_title(f'found: {"".join(map(str, found.scheme))}', fontsize=9, loc='left')
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=150)
    except OSError as error:
        raise InputError(f'{path} cannot be written: {error}') from error
