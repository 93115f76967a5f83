"""Time EAN as one operation beside the plain formula, as published and under torch.compile, on real feature maps."""

import argparse
import json
import sys
from pathlib import Path

import torch
from rich.console import Console

from ean_mmdet.analysis.benchmark_ops import NETWORKS, benchmark_ops, tables
from ean_mmdet.analysis.timing import DTYPES, LAYOUTS


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument('--device', default='cuda' if torch.cuda.is_available() else 'cpu', help='cpu, cuda, cuda:1, …')
    parser.add_argument('--dtype', choices=DTYPES, default='float32', help='type of the feature maps')
    parser.add_argument('--layout', choices=LAYOUTS, default='contiguous', help='memory layout of the feature maps')
    parser.add_argument('--batch', type=int, default=1, help='samples')
    parser.add_argument('--repeat', type=int, default=30, help='rounds, of which the median is taken')
    parser.add_argument('--network', nargs='+', choices=NETWORKS, default=list(NETWORKS), help='whose feature maps')
    parser.add_argument('--no-compile', action='store_true', help='leave torch.compile out, which takes minutes')
    parser.add_argument('--out', type=Path, metavar='PATH', help='write the figures here, as JSON')
    args = parser.parse_args()
    if args.batch < 1 or args.repeat < 1:
        parser.error('--batch and --repeat must be 1 at least')
    if args.device.startswith('cuda') and not torch.cuda.is_available():
        parser.error(f'--device {args.device}: PyTorch sees no GPU here')
    return args


def main() -> None:
    args = parse_args()
    result = benchmark_ops(
        args.device,
        args.dtype,
        args.layout,
        args.batch,
        args.repeat,
        not args.no_compile,
        args.network,
        progress=lambda line: print(line, file=sys.stderr, flush=True),
    )
    # A pipe has no width, and cutting figures there would lose them.
    console = Console(width=None if sys.stdout.isatty() else 160)
    for table in tables(result):
        console.print(table)
    for name, value in result['environment'].items():
        console.print(f'{name}: {value}', highlight=False)
    if args.out:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(json.dumps(result, indent=1) + '\n')
        print(f'wrote {args.out}')


if __name__ == '__main__':
    main()
