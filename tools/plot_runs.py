"""Draw what training runs logged: their metric, loss and learning rate, or the final metric against a setting."""

import argparse
import sys
from pathlib import Path

from matplotlib.figure import Figure

from ean_mmdet.engine import user_errors
from ean_mmdet.errors import InputError
from ean_mmdet.evaluation.curves import against_table, curves_table, outcomes_against, plot_against, plot_curves
from ean_mmdet.evaluation.runs import choose_metric, read_runs, short_names
from ean_mmdet.files import claim, write_atomically
from ean_mmdet.table import Table


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        'runs',
        nargs='+',
        metavar='RUN',
        help='work dir of a training, all its starts joined; or the folder of one start in it, or a scalars.json',
    )
    parser.add_argument(
        '--legend', nargs='+', metavar='NAME', help='names of the runs (default: where their work dirs differ)'
    )
    parser.add_argument(
        '--metric',
        help='validation metric, such as accuracy/top1 or coco/bbox_mAP '
        "(default: the one that the best checkpoint is saved by, or the log's first that all runs have)",
    )
    parser.add_argument(
        '--smooth', type=int, default=1, metavar='N', help='draw the loss as the mean of N logged values (default: 1)'
    )
    parser.add_argument(
        '--against',
        metavar='KEY',
        help='draw the final metric against this setting of the configs, such as model.backbone.groups',
    )
    parser.add_argument(
        '--out',
        type=Path,
        metavar='PATH',
        help='the picture, of any format that matplotlib writes (default: runs.png, with --against runs_KEY.png, or '
        'runs-2.png, … where one of other runs is)',
    )
    args = parser.parse_args()
    if args.smooth < 1:
        parser.error('--smooth takes a number from 1 on')
    if args.against and args.smooth > 1:
        parser.error('--smooth is about the curves: it does not go with --against')
    return args


def draw(args: argparse.Namespace) -> tuple[Figure, Table, list[str]]:
    """The picture, its table and what the user should know about the logs."""
    if args.out and args.out.suffix[1:].lower() not in Figure().canvas.get_supported_filetypes():
        raise InputError(f'--out {args.out}: matplotlib writes no such format; end it in .png, .pdf or .svg')
    if args.legend and len(args.legend) != len(args.runs):
        raise InputError(f'--legend has {len(args.legend)} names for {len(args.runs)} runs')
    runs = read_runs(args.runs)
    names = args.legend or short_names(runs)
    metric = choose_metric(runs, names, args.metric)
    notes = [note for run in runs for note in run.notes]
    notes += [f'{name}: nothing validated yet' for run, name in zip(runs, names) if not run.validation]
    if args.against:
        outcomes = outcomes_against(runs, names, args.against, metric)
        return plot_against(outcomes, args.against, metric), against_table(outcomes, args.against, metric), notes
    return plot_curves(runs, names, metric, args.smooth), curves_table(runs, names, metric), notes


def main() -> None:
    args = parse_args()
    with user_errors():
        figure, table, notes = draw(args)
        default = Path(f'runs_{args.against}.png' if args.against else 'runs.png')
        out = claim(args.out, default, runs=args.runs)
        write_atomically(out, lambda path: figure.savefig(path, format=out.suffix[1:].lower(), dpi=150))
    for note in notes:
        print(f'note: {note}', file=sys.stderr, flush=True)
    table.print()
    print(f'wrote {out}')


if __name__ == '__main__':
    main()
