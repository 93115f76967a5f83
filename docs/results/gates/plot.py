"""Draw top-1, with and without the maps, and what the gates do, against epochs, of what ``train.py`` beside this wrote.

python docs/results/gates/plot.py OUT_DIR FILE.png [--settings NAME …]
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from statistics import mean

from matplotlib import pyplot as plt


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('results', type=Path, help='folder of train.py')
    parser.add_argument('out', type=Path, help='picture to write')
    parser.add_argument('--settings', nargs='+', help='settings to draw (default: all)')
    args = parser.parse_args()
    runs: dict[str, list[list[dict]]] = {}
    for path in sorted(args.results.glob('*_seed*.json')):
        name = path.stem.rpartition('_seed')[0]
        if not args.settings or name in args.settings:
            runs.setdefault(name, []).append(json.loads(path.read_text())['epochs'])
    if not runs:
        parser.error(f'{args.results} has no results of these settings: train.py writes SETTING_seedN.json')
    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(13, 4), layout='constrained')
    for color, (name, seeds) in enumerate(runs.items()):
        draw(left, seeds, 'test', f'C{color}', label=name)
        draw(left, seeds, 'test_with_constants', f'C{color}', linestyle=':')
        draw(middle, seeds, 'alpha_omega', f'C{color}', label=name)
        draw(right, seeds, 'spread', f'C{color}', label=name)
    left.set(title='Top-1 (dotted: constant maps)', ylabel='%')
    middle.set(title='Mean |α·ω| of all EANs')
    right.set(title='Spread of the attention map')
    left.legend()
    for axes in (left, middle, right):
        axes.set_xlabel('epoch')
        axes.grid(alpha=0.3)
    figure.savefig(args.out, dpi=80)


def draw(axes: plt.Axes, seeds: list[list[dict]], key: str, color: str, **kwargs) -> None:
    """The mean over seeds as a line, and a point a seed, where there is such a figure."""
    rows = [
        [(row.get('epoch', number), value(row[key])) for number, row in enumerate(epochs, 1)]
        for epochs in seeds
        if key in epochs[0]
    ]
    if not rows:
        return
    line = [(points[0][0], mean(figure for _, figure in points)) for points in zip(*rows)]
    axes.plot(*zip(*line), color=color, **kwargs)
    for points in rows:
        axes.plot(*zip(*points), '.', color=color, markersize=3, alpha=0.5)


def value(figure: float | list[float]) -> float:
    return mean(figure) if isinstance(figure, list) else figure


if __name__ == '__main__':
    main()
