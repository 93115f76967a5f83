"""Time EAN as one operation beside the plain formula, as published and under torch.compile, on real feature maps."""

import argparse
import json
import sys

from ean_mmdet.analysis.benchmark_arguments import add_benchmark_arguments, parse_benchmark
from ean_mmdet.analysis.benchmark_ops import NETWORKS, benchmark_ops, tables
from ean_mmdet.analysis.benchmark_small_maps import benchmark_small_maps, table


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    add_benchmark_arguments(parser, repeat=30)
    parser.add_argument('--network', nargs='+', choices=NETWORKS, default=list(NETWORKS), help='whose feature maps')
    parser.add_argument(
        '--small-maps',
        action='store_true',
        help='time the batch norm and EAN on the maps of a CIFAR network instead, on the CPU in float32, both layouts',
    )
    parser.add_argument('--no-compile', action='store_true', help='leave torch.compile out, which takes minutes')
    return parse_benchmark(parser)


def main() -> None:
    args = parse_args()

    def progress(line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    if args.small_maps:
        rows = benchmark_small_maps(args.batch, args.repeat, progress)
        table(rows).print()
        if args.out:
            args.out.write_text(json.dumps(rows, indent=1) + '\n')
            print(f'wrote {args.out}')
        return
    result = benchmark_ops(
        args.device,
        args.dtype,
        args.layout,
        args.batch,
        args.repeat,
        not args.no_compile,
        args.network,
        progress=progress,
    )
    for of_pass in tables(result):
        of_pass.print()
    for name, value in result['environment'].items():
        print(f'{name}: {value}')
    if args.out:
        args.out.write_text(json.dumps(result, indent=1) + '\n')
        print(f'wrote {args.out}')


if __name__ == '__main__':
    main()
