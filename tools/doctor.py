"""Show what this machine has for training: versions, GPUs, kernels, memory, data; EAN's speed; a rehearsal."""

import argparse
import json
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import track

import ean_mmdet  # noqa: F401, registers the modules
from ean_mmdet import engine
from ean_mmdet.analysis import doctor
from ean_mmdet.analysis.benchmark import benchmark
from ean_mmdet.analysis.rehearsal import rehearse
from ean_mmdet.analysis.timing import LAYOUTS, interleave
from ean_mmdet.files import write_text

COPIED = 64 << 20  # bytes


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', nargs='?', help='a config whose data folders are looked for')
    parser.add_argument('--train', action='store_true', help='train the config for some iterations on made-up images')
    parser.add_argument('--iterations', type=int, default=20, help='with --train, how many (default: %(default)s)')
    parser.add_argument(
        '--image-size', type=int, nargs=2, metavar=('WIDTH', 'HEIGHT'),
        help='with --train, size of the images before the pipeline (default: usual ones of the data set)',
    )  # fmt: skip
    parser.add_argument('--images', type=int, help='with --train, training images there are, for schedules in epochs')
    parser.add_argument(
        '--speed', action='store_true', help='EAN beside plain ResNet-50 and MobileNeXt: time and memory'
    )
    parser.add_argument(
        '--shape', type=int, nargs=2, metavar=('HEIGHT', 'WIDTH'), help='with --speed, size of the images'
    )
    parser.add_argument('--batch', type=int, default=1, help='with --speed, images at a time (default: %(default)s)')
    parser.add_argument('--repeat', type=int, default=5, help='with --speed, rounds (default: %(default)s)')
    parser.add_argument(
        '--every-kernel', action='store_true', help='check every variant of the kernels, which takes minutes'
    )
    parser.add_argument('--json', type=Path, metavar='FILE', help='write all of it here too')
    args = engine.parse(parser)
    if args.train and args.config is None:
        parser.error('--train needs a config')
    return args


def measure_speed(args: argparse.Namespace) -> dict:
    """EAN beside the plain network, and how fast a copy is, in GB/s read and written."""
    device = 'cuda' if torch.cuda.is_available() else 'cpu'
    numbers = torch.empty(COPIED // 4, device=device)
    target = torch.empty_like(numbers)
    seconds = interleave({'copy': lambda: target.copy_(numbers)}, torch.device(device), 7)['copy']
    found: dict = {'copy': f'{2 * COPIED / seconds / 1e9:.1f} GB/s'}
    for backbone in ('resnet50', 'mobilenext'):
        for layout in LAYOUTS:
            shape = None if args.shape is None else tuple(args.shape)
            measured = benchmark(backbone, ['EAN'], shape, device, layout=layout, batch=args.batch, repeat=args.repeat)
            plain, ean = measured['rows']
            for name, row in ean['passes'].items():
                found[f'{backbone}, {layout}, {name}'] = (
                    f'{row["seconds"] * 1e3:.1f} ms, {row["ratio"]:.2f} of plain; peak memory '
                    f'{row["memory"] / plain["passes"][name]["memory"]:.2f} of plain'
                )
    return found


def main() -> None:
    args = parse_args()
    console = Console(soft_wrap=True)
    with engine.user_errors():
        config = engine.load_config(args.config) if args.config else None
        folder = Path((config or {}).get('work_dir') or 'work_dirs')

        def progress(entries: list) -> object:
            return track(entries, 'Checking kernels', console=console, transient=True)

        report = doctor.examine(folder, config, args.every_kernel, progress)
        if args.speed:
            report['speed'] = measure_speed(args)
        if args.train:
            found = rehearse(config, args.iterations, args.image_size and tuple(args.image_size), args.images)
            report['training'] = describe(found)
    for table in doctor.tables(report):
        table.print()
    wrong = doctor.problems(report)
    for line in wrong:
        console.print(f'problem: {line}', style='bold red', markup=False)
    if not wrong:
        console.print('No problem found.')
    if args.json is not None:
        with engine.user_errors():
            write_text(args.json, json.dumps(report, indent=1) + '\n')
            console.print(f'All of it is in {args.json}')


def describe(found: dict) -> dict[str, str]:
    """Say what a rehearsal found."""
    first, last = found['loss']
    lines = {
        'iteration': f'{found["seconds"]:.3f} s at batch {found["batch"]}, {found["waiting"]:.0%} waiting for data',
        'loss': f'{first:.3g} → {last:.3g}' if found['finite'] else f'! not finite: {first:.3g} → {last:.3g}',
    }
    if found['memory'] is not None:
        lines['peak memory'] = f'{found["memory"] / 2**30:.2f} GiB'
    lines['whole schedule'] = (
        f'{found["iterations"]:,} iterations of a device, {found["hours"]:.1f} hours at this speed'
        if found['hours'] is not None
        else 'in epochs; say with --images how many training images there are'
    )
    return lines


if __name__ == '__main__':
    main()
