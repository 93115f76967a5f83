"""From a folder of images to a detector: find out what is there, and write the config that fits it."""

import argparse
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path

from rich.console import Console
from rich.progress import track

import ean_mmdet  # noqa: F401, registers the modules
from ean_mmdet import engine
from ean_mmdet.errors import InputError
from ean_mmdet.own_data import DETECTORS, New, Options, Settings, new_config

ROOT = Path(__file__).resolve().parents[1]
TOOLS = Path(__file__).resolve().parent

console = Console(soft_wrap=True)


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('data', type=Path, metavar='DATA', help='folder of images and annotations; it is not changed')
    parser.add_argument('--detector', choices=DETECTORS, default='ssdlite', help='(default: %(default)s)')
    parser.add_argument(
        '--attention', default='none', metavar='MODULE', help='EAN, SE, "CA(ratio=16)", … (default: %(default)s)'
    )
    parser.add_argument(
        '--from', dest='start', metavar='CHECKPOINT',
        help='what to start from, or none (default: published weights where they can be had)',
    )  # fmt: skip
    parser.add_argument('--out', type=Path, metavar='FILE.py', help='the config (default: DATA_DETECTOR.py, here)')
    parser.add_argument('--force', action='store_true', help='overwrite it')
    parser.add_argument('--train', action='store_true', help='go on: train, evaluate, and write the report')
    parser.add_argument('--work-dir', type=Path, help='with --train, where to (default: work_dirs/CONFIG_NAME)')
    data = parser.add_argument_group('where the folder does not say it of itself')
    data.add_argument('--format', choices=['coco', 'voc', 'yolo'], help='which of several formats to use')
    data.add_argument('--annotations', type=Path, nargs='+', default=[], metavar='FILE', help='which files to use')
    data.add_argument('--images', type=Path, metavar='FOLDER', help='where the images are')
    data.add_argument('--classes', nargs='+', default=[], metavar='NAME', help='their names in their order')
    data.add_argument(
        '--splits', nargs='+', default=[], metavar='ROLE=NAME', help='what to train on, …: train=trainval val=test'
    )
    data.add_argument(
        '--val-fraction', type=float, default=0.2, help='to validate on where there is no split (default: %(default)s)'
    )
    data.add_argument('--seed', type=int, default=0, help='of that split (default: %(default)s)')
    numbers = parser.add_argument_group('numbers that are chosen otherwise')
    numbers.add_argument('--input-size', type=int, metavar='PIXELS', help="side of the network's input")
    numbers.add_argument('--batch-size', type=int, metavar='IMAGES', help='images a device')
    numbers.add_argument('--iterations', type=int, help='of the schedule')
    numbers.add_argument(
        '--width', type=float, default=1.0, metavar='FACTOR',
        help="on the channels of ssdlite's backbone; 0.5 suits a CPU (default: 1)",
    )  # fmt: skip
    numbers.add_argument(
        '--no-rehearsal', action='store_true', help='take the usual batch, without a look at memory and time'
    )
    return engine.parse(parser)


def progress(what: str, entries: Iterable, number: int) -> Iterable:
    """Show how far something is."""
    return track(entries, what, number, console=console, transient=True)


def default_out(args: argparse.Namespace) -> Path:
    """A name for the config: the data's, the detector's and the module's."""
    words = [args.data.resolve().name, args.detector, *([] if args.attention == 'none' else [args.attention])]
    return Path('_'.join(re.sub(r'\W+', '_', word).strip('_').lower() for word in words) + '.py')


def splits(pairs: list[str]) -> dict[str, str]:
    """``--splits`` as a dict."""
    wrong = [pair for pair in pairs if '=' not in pair]
    if wrong:
        raise InputError(f'--splits {wrong[0]}: it takes ROLE=NAME, such as train=trainval')
    return dict(pair.split('=', 1) for pair in pairs)


def write(args: argparse.Namespace) -> New:
    """Write the config, and tell what was found."""
    options = Options(args.format, tuple(args.annotations), args.images, tuple(args.classes), splits(args.splits))
    settings = Settings(
        args.detector, args.attention, args.start, args.val_fraction, args.seed, args.input_size, args.batch_size,
        args.iterations, args.width, not args.no_rehearsal, args.force,
    )  # fmt: skip
    said = [word for word in sys.argv[1:] if word not in ('--force', '--train')]  # of no matter for the file
    command = f'python tools/new_config.py {shlex.join(said)}'
    return new_config(args.data, args.out, ROOT / 'configs', options, settings, command, progress)


def commands(new: New, work_dir: Path) -> dict[str, list[str]]:
    """The three commands that come next."""
    config, checkpoint = str(new.path), str(work_dir / new.last)
    predictions = str(work_dir / 'predictions.json')
    return {
        'Train': ['train.py', config, '--work-dir', str(work_dir)],
        'Evaluate': [
            'test.py', config, checkpoint, '--work-dir', str(work_dir / 'test'), '--out', predictions, '--show-dir',
            'pictures',
        ],
        'Write the report': ['report.py', str(work_dir), '--base', config],
    }  # fmt: skip


def run(title: str, command: list[str]) -> float:
    """Run a tool in sight of the user; the seconds it took."""
    console.rule(title)
    console.print('$ python', 'tools/' + shlex.join(command), style='bold', highlight=False)
    begin = time.monotonic()
    code = subprocess.run([sys.executable, '-W', 'ignore', str(TOOLS / command[0]), *command[1:]]).returncode
    if code:
        console.print(f'{title} failed; its output is above.', style='red')
        sys.exit(code)
    return time.monotonic() - begin


def main() -> None:
    args = parse_args()
    args.out = args.out or default_out(args)
    with engine.user_errors():
        new = write(args)
    for table in new.tables:
        console.print(table.rich())
    work_dir = args.work_dir or Path('work_dirs', new.path.stem)
    steps = commands(new, work_dir)
    console.print(
        f'The config is in [bold]{new.path}[/bold], some images with their boxes in [bold]{new.picture}[/bold].'
    )
    if not args.train:
        console.print('What comes next:')
        for command in steps.values():
            console.print('  python tools/' + shlex.join(command), style='bold', highlight=False)
        return
    seconds = {title: run(title, command) for title, command in steps.items()}
    console.rule('Done')
    console.print(', '.join(f'{title.lower()}: {took:.0f} s' for title, took in seconds.items()))
    for what, where in {
        'log, config and scalars': work_dir,
        'trained checkpoint': work_dir / new.last,
        'the page about it all, for a browser': work_dir / 'report.html',
    }.items():
        console.print(f'  {what}: [bold]{where}[/bold]', highlight=False)


if __name__ == '__main__':
    main()
