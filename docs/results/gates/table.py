"""Print what ``train.py`` beside this file wrote as a table in Markdown.

python docs/results/gates/table.py OUT_DIR [--against constant] [--epochs 20 50 …] [--by test]
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from statistics import mean, stdev

from ean_mmdet.evaluation.bootstrap import interval
from ean_mmdet.table import Table

HEADER = (
    'setting', 'top-1 by seed', 'held out', 'difference to {}, 95 % interval', 'top-1', 'top-1, constant maps',
    'abs(α·ω), first and last', 'abs(δ)', 'spread of the map',
)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('results', type=Path, help='folder of train.py')
    parser.add_argument('--against', default='constant', help='setting to compare with (default: %(default)s)')
    parser.add_argument('--epochs', type=int, nargs='+', help='the state after each of these (default: the last)')
    parser.add_argument(
        '--by', choices=('held_out', 'test'), default='held_out', help='images of the difference (default: %(default)s)'
    )
    args = parser.parse_args()
    found: dict[str, list[dict]] = {}
    for path in sorted(args.results.glob('*_seed*.json')):
        found.setdefault(path.stem.rpartition('_seed')[0], []).append(json.loads(path.read_text()))
    if args.against not in found:
        parser.error(
            f'{args.results} has no results of {args.against} (--against), only of {", ".join(found) or "none"}'
        )
    rows = [row for epoch in args.epochs or [None] for row in rows_of(found, args.against, args.by, epoch)]
    header = tuple(name.format(args.against) for name in HEADER)
    print(Table('Gates', header, tuple(rows)).markdown())


def rows_of(found: dict[str, list[dict]], against: str, by: str, epoch: int | None) -> list[tuple[str, ...]]:
    """A row a setting, the best first, after an epoch or the last."""
    if epoch:
        found = {f'{name}, epoch {epoch}': [until(r, epoch) for r in results] for name, results in found.items()}
        against += f', epoch {epoch}'
    rows = []
    for name, results in sorted(found.items(), key=lambda item: -mean(r['epochs'][-1][by] for r in item[1])):
        last = [result['epochs'][-1] for result in results]
        gates = [epoch for epoch in last if 'alpha_omega' in epoch]
        # the first runs have the last one alone, beside their epochs
        constant = [(result | result['epochs'][-1]).get('test_with_constants') for result in results if gates]
        ends = [f'{mean(g["alpha_omega"][place] for g in gates):.3f}' for place in (0, -1)] if gates else ()
        rows.append(
            (
                name,
                ', '.join(f'{epoch["test"]:.2f}' for epoch in last),
                scatter([epoch['held_out'] for epoch in last]),
                difference(results, found[against], by) if name != against else '–',
                scatter([epoch['test'] for epoch in last]),
                scatter(constant) if constant else '',
                ', '.join(ends),
                f'{mean(mean(g["delta"]) for g in gates):.2f}' if gates else '',
                f'{mean(mean(g["spread"]) for g in gates):.3f}' if gates else '',
            )
        )
    return rows


def until(result: dict, epoch: int) -> dict:
    return result | dict(epochs=[row for row in result['epochs'] if row['epoch'] <= epoch])


def difference(results: list[dict], others: list[dict], by: str) -> str:
    """Paired by seed."""
    top1 = [{result['seed']: result['epochs'][-1][by] for result in runs} for runs in (results, others)]
    of = interval([top1[0][seed] - top1[1][seed] for seed in top1[0] if seed in top1[1]])
    return f'{of.mean:+.2f} [{of.low:+.2f}, {of.high:+.2f}]' if of else ''


def scatter(values: list[float]) -> str:
    """Mean ± standard deviation."""
    return f'{mean(values):.2f}' + (f' ± {stdev(values):.2f}' if len(values) > 1 else '')


if __name__ == '__main__':
    main()
