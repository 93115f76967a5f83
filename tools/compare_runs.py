"""Compare networks over seeds from their logs: mean ± standard deviation, and the paired difference to one of them."""

import argparse
from pathlib import Path

from ean_mmdet.analysis.comparison import compare
from ean_mmdet.engine import user_errors


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('logs', nargs='+', type=Path, metavar='LOG', help='KIND_NETWORK_seedN.json, logs of mmengine')
    parser.add_argument('--metric', nargs='+', required=True, help='metrics, such as accuracy/top1 coco/bbox_mAP')
    parser.add_argument('--reference', default='plain', help='network to compare with (default: %(default)s)')
    parser.add_argument('--digits', type=int, default=2, help='digits behind the point (default: 2)')
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    with user_errors():
        tables = {metric: compare(args.logs, metric, args.reference) for metric in args.metric}
    number = f'.{args.digits}f'
    for metric, rows in tables.items():
        print(f'| {metric} | seeds | mean ± standard deviation | difference to {args.reference}, 95 % interval |')
        print('| --- | --- | ---: | ---: |')
        for row in rows:
            seeds = ', '.join(f'{row.values[seed]:{number}}' for seed in sorted(row.values))
            difference = '–'
            if row.difference is not None:
                low, high = row.difference - row.half_width, row.difference + row.half_width
                difference = f'{row.difference:+{number}} [{low:+{number}}, {high:+{number}}]'
            print(f'| {row.network} | {seeds} | {row.mean:{number}} ± {row.deviation:{number}} | {difference} |')
        print()


if __name__ == '__main__':
    main()
