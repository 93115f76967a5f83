"""Time whole backbones, plain and with each attention module: inference, training steps, peak memory."""

import argparse
import importlib.util
import json
import sys
from pathlib import Path

from mmengine.logging import MMLogger

import ean_mmdet  # noqa: F401, registers the modules
from ean_mmdet.analysis.benchmark import (
    BACKBONES,
    FORMULA,
    PLAIN,
    RUNTIMES,
    benchmark,
    modules,
    plot,
    tables,
)
from ean_mmdet.analysis.benchmark_arguments import add_benchmark_arguments, parse_benchmark
from ean_mmdet.engine import user_errors


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=f'{__doc__} With --out a PNG beside the JSON.',
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add_benchmark_arguments(parser, repeat=10)
    parser.add_argument('--backbone', choices=BACKBONES, default='resnet50')
    parser.add_argument(
        '--attention',
        nargs='+',
        metavar='NAME',
        help='what to compare with the plain network; formula is EAN step by step (default: every module)',
    )
    parser.add_argument(
        '--shape',
        nargs=2,
        type=int,
        metavar=('HEIGHT', 'WIDTH'),
        help='size of the images (default: 800 1216 for resnet50, 320 320 for mobilenext)',
    )
    parser.add_argument('--no-training', action='store_true', help='inference alone')
    parser.add_argument('--compile', action='store_true', help='compile the networks with torch.compile')
    parser.add_argument(
        '--runtime',
        choices=('torch', *RUNTIMES),
        default='torch',
        help='what runs the networks; all but torch: exported, inference in float32 on the CPU',
    )
    parser.add_argument(
        '--files', nargs='+', type=Path, metavar='FILE.onnx', help='time these files of tools/export.py instead'
    )
    args = parse_benchmark(parser)
    other = args.device.type != 'cpu' or args.dtype != 'float32' or args.layout != 'contiguous' or args.compile
    if args.runtime != 'torch' and other:
        parser.error(
            f'--runtime {args.runtime} is measured on the CPU in float32: no other --device, --dtype or --layout'
        )
    if args.shape and min(args.shape) < (64 if args.batch == 1 else 32):
        parser.error(
            '--shape: images of 64 × 64 at least, or 32 × 32 with a larger --batch; the networks have stride 32, and '
            'batch norm needs more than one value'
        )
    if args.runtime == 'openvino' and importlib.util.find_spec('openvino') is None:
        parser.error('--runtime openvino needs openvino: pip install openvino')
    known = [*(name for name in modules(args.backbone) if name != PLAIN), FORMULA]
    unknown = sorted(set(args.attention or ()) - set(known))
    if unknown:
        parser.error(f'--attention {" ".join(unknown)}: {args.backbone} can have {", ".join(known)}')
    return args


def main() -> None:
    args = parse_args()
    if args.files:
        from ean_mmdet.analysis.benchmark_files import benchmark_files, files_table  # needs the extra 'deploy'

        with user_errors():
            files_table(benchmark_files(args.files, args.batch, args.repeat)).print()
        return
    MMLogger.get_instance('benchmark', log_level='WARNING')  # or every layer logs how it was initialized
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
        args.compile,
        args.runtime,
        progress=lambda line: print(line, file=sys.stderr, flush=True),
    )
    for table in tables(result):
        table.print()
    for name, value in result['environment'].items():
        print(f'{name}: {value}')
    if args.out:
        picture = args.out.with_suffix('.png')
        plot(result, picture)
        args.out.write_text(json.dumps(result, indent=1) + '\n')
        print(f'wrote {args.out} and {picture}')


if __name__ == '__main__':
    main()
