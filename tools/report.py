"""One HTML file about a training run, or about several side by side: opened by double click, without a network."""

import argparse
import sys
from pathlib import Path

from ean_mmdet import engine
from ean_mmdet.errors import InputError
from ean_mmdet.files import write_text
from ean_mmdet.report import Settings, write_report


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('runs', nargs='+', type=Path, metavar='WORK_DIR', help='work dir of a training')
    parser.add_argument(
        '--predictions',
        nargs='+',
        type=Path,
        metavar='FILE.pkl',
        help='predictions of tools/test.py --out, of each run (default: the newest .pkl in its work dir)',
    )
    parser.add_argument('--out', type=Path, help='the file (default: report.html in the first work dir)')
    parser.add_argument(
        '--score-thr', type=float, default=0.3, help='least score in pictures and confusion matrix (default: 0.3)'
    )
    parser.add_argument('--images', type=int, default=4, help='best and worst images to show (default: 4)')
    parser.add_argument('--maps', type=int, default=3, help='activation maps to show, 0: none (default: 3)')
    parser.add_argument(
        '--base', type=Path, help='config to list differences from (default: that of the same name in configs/)'
    )
    args = engine.parse(parser)
    if args.predictions and len(args.predictions) != len(args.runs):
        parser.error(f'--predictions has {len(args.predictions)} files for {len(args.runs)} runs')
    return args


def main() -> None:
    args = parse_args()
    out = args.out or args.runs[0] / 'report.html'
    with engine.user_errors(out.parent):
        for run in args.runs:
            if not run.is_dir():
                raise InputError(f'no work dir at {run}')
        configs = Path(__file__).resolve().parents[1] / 'configs'
        settings = Settings(args.score_thr, args.images, args.maps, args.base, configs)
        predictions = args.predictions or [None] * len(args.runs)
        text = write_report(
            args.runs, predictions, settings, progress=lambda line: print(line, file=sys.stderr, flush=True)
        )
        write_text(out, text)
    print(f'wrote {out} ({out.stat().st_size / 1e6:.1f} MB)')


if __name__ == '__main__':
    main()
