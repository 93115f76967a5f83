"""One HTML file about training runs, or about COCO results of any framework: a double click opens it, offline."""

import argparse
import sys
from pathlib import Path

from ean_mmdet import engine
from ean_mmdet.errors import InputError
from ean_mmdet.evaluation.report import Settings, report_results, report_runs
from ean_mmdet.evaluation.results import annotated_truth
from ean_mmdet.files import claim, write_text


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('runs', nargs='*', type=Path, metavar='WORK_DIR', help='work dir of a training')
    parser.add_argument(
        '--predictions',
        nargs='+',
        type=Path,
        metavar='FILE.json',
        help='COCO results of each run, as tools/test.py --out writes them (default: the newest of these in its work '
        'dir); with --annotations those of any framework',
    )
    parser.add_argument(
        '--annotations', type=Path, metavar='FILE.json', help='COCO annotations of the predictions, instead of runs'
    )
    parser.add_argument(
        '--image-dir', type=Path, help="folder of the annotations' images (default: the annotations' own)"
    )
    parser.add_argument(
        '--out',
        type=Path,
        help='the file (default: report.html beside the first of what it is about, or report-2.html, … where one of '
        'others is)',
    )
    parser.add_argument(
        '--score-thr', type=float, default=0.3, help='least score in pictures and confusion matrix (default: 0.3)'
    )
    parser.add_argument('--images', type=int, default=4, help='best and worst images to show (default: 4)')
    parser.add_argument('--maps', type=int, default=3, help='activation maps to show, 0: none (default: 3)')
    parser.add_argument(
        '--base', type=Path, help='config to list differences from (default: that of the same name in configs/)'
    )
    args = engine.parse(parser)
    if bool(args.runs) == bool(args.annotations):
        parser.error('give either work dirs, or --annotations with --predictions')
    if args.annotations and not args.predictions:
        parser.error('--annotations needs --predictions')
    if args.image_dir and not args.annotations:
        parser.error('--image-dir goes with --annotations')
    if args.runs and args.predictions and len(args.predictions) != len(args.runs):
        parser.error(f'--predictions has {len(args.predictions)} files for {len(args.runs)} runs')
    return args


def main() -> None:
    args = parse_args()
    default = (args.runs[0] if args.runs else args.predictions[0].parent) / 'report.html'
    with engine.user_errors((args.out or default).parent):
        for run in args.runs:
            if not run.is_dir():
                raise InputError(f'no work dir at {run}')
        configs = Path(__file__).resolve().parents[1] / 'configs'
        settings = Settings(args.score_thr, args.images, args.maps, args.base, configs)

        def progress(line: str) -> None:
            print(line, file=sys.stderr, flush=True)

        if args.annotations:
            truth = annotated_truth(args.annotations, args.image_dir)
            text = report_results(args.predictions, truth, settings, progress)
        else:
            text = report_runs(args.runs, args.predictions or [None] * len(args.runs), settings, progress)
        out = claim(args.out, default, runs=args.runs, predictions=args.predictions, annotations=args.annotations)
        write_text(out, text)
    print(f'wrote {out} ({out.stat().st_size / 1e6:.1f} MB)')


if __name__ == '__main__':
    main()
