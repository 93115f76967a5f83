"""Draw the sample data set: shapes of five classes, as COCO JSON and as VOC XML."""

import argparse
import time
from pathlib import Path

from ean_mmdet.datasets import make_sample_dataset


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument('root', nargs='?', type=Path, default=Path('data/sample'), help='folder to write to')
    parser.add_argument('--train', type=int, default=1000, help='training images')
    parser.add_argument('--val', type=int, default=100, help='validation images')
    parser.add_argument('--size', type=int, nargs=2, default=(320, 240), metavar=('WIDTH', 'HEIGHT'), help='in pixels')
    parser.add_argument('--seed', type=int, default=0, help='seed of everything random')
    args = parser.parse_args()
    start = time.monotonic()
    try:
        make_sample_dataset(args.root, args.train, args.val, tuple(args.size), args.seed)
    except ValueError as error:
        parser.error(str(error))
    seconds = time.monotonic() - start
    print(f'{args.train} training and {args.val} validation images are in {args.root} ({seconds:.0f} s)')


if __name__ == '__main__':
    main()
