"""Time whole backbones, plain and with each attention module, side by side: inference, training step, peak memory."""

import argparse
import json
import sys
from pathlib import Path

import torch
from rich.console import Console

import ean_mmdet  # noqa: F401, registers the modules
from ean_mmdet.analysis.benchmark import BACKBONES, PLAIN, benchmark, modules, plot, tables
from ean_mmdet.analysis.timing import DTYPES, LAYOUTS


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument('--backbone', choices=BACKBONES, default='resnet50')
    parser.add_argument(
        '--attention', nargs='+', metavar='NAME', help='what to compare with the plain network (default: every module)'
    )
    parser.add_argument(
        '--shape',
        nargs=2,
        type=int,
        metavar=('HEIGHT', 'WIDTH'),
        help='size of the images (default: 800 1216 for resnet50, 320 320 for mobilenext)',
    )
    parser.add_argument('--device', default='cuda' if torch.cuda.is_available() else 'cpu', help='cpu, cuda, cuda:1, …')
    parser.add_argument('--dtype', choices=DTYPES, default='float32', help='other than float32: under autocast')
    parser.add_argument('--layout', choices=LAYOUTS, default='contiguous', help='memory layout of weights and images')
    parser.add_argument('--batch', type=int, default=1, help='images at a time')
    parser.add_argument('--repeat', type=int, default=10, help='rounds, of which the median is taken')
    parser.add_argument('--no-training', action='store_true', help='inference alone')
    parser.add_argument('--out', type=Path, metavar='PATH', help='write the figures here, as JSON, and a PNG beside it')
    args = parser.parse_args()
    if args.batch < 1 or args.repeat < 1:
        parser.error('--batch and --repeat must be 1 at least')
    if args.shape and min(args.shape) < 64:
        parser.error(
            '--shape: images of 64 × 64 at least; the networks have stride 32, and batch norm needs more than one value'
        )
    if args.device.startswith('cuda') and not torch.cuda.is_available():
        parser.error(f'--device {args.device}: PyTorch sees no GPU here')
    known = [name for name in modules(args.backbone) if name != PLAIN]
    unknown = sorted(set(args.attention or ()) - set(known))
    if unknown:
        parser.error(f'--attention {" ".join(unknown)}: {args.backbone} can have {", ".join(known)}')
    return args


def main() -> None:
    args = parse_args()
    result = benchmark(
        args.backbone,
        args.attention,
        args.shape,
        args.device,
        args.dtype,
        args.layout,
        args.batch,
        args.repeat,
        not args.no_training,
        progress=lambda line: print(line, file=sys.stderr, flush=True),
    )
    # A pipe has no width, and cutting figures there would lose them.
    console = Console(width=None if sys.stdout.isatty() else 140)
    for table in tables(result):
        console.print(table)
    for name, value in result['environment'].items():
        console.print(f'{name}: {value}', highlight=False)
    if args.out:
        picture = args.out.with_suffix('.png')
        plot(result, picture)
        args.out.write_text(json.dumps(result, indent=1) + '\n')
        print(f'wrote {args.out} and {picture}')


if __name__ == '__main__':
    main()
