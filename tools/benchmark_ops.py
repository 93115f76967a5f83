"""Time EAN as one operation beside the plain formula, as published and under torch.compile, on real feature maps."""

import argparse
import json
import sys

from rich.console import Console

from ean_mmdet.analysis.benchmark_arguments import add_benchmark_arguments, parse_benchmark
from ean_mmdet.analysis.benchmark_ops import NETWORKS, benchmark_ops, tables


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    add_benchmark_arguments(parser, repeat=30)
    parser.add_argument('--network', nargs='+', choices=NETWORKS, default=list(NETWORKS), help='whose feature maps')
    parser.add_argument('--no-compile', action='store_true', help='leave torch.compile out, which takes minutes')
    return parse_benchmark(parser)


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
        args.out.write_text(json.dumps(result, indent=1) + '\n')
        print(f'wrote {args.out}')


if __name__ == '__main__':
    main()
