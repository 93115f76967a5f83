"""The command-line arguments that the benchmarks share."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import torch

from .timing import DTYPES, LAYOUTS, usable_device


def add_benchmark_arguments(parser: argparse.ArgumentParser, repeat: int) -> None:
    """Add ``--device --dtype --layout --batch --repeat --out``.

    Args:
        parser: The parser.
        repeat: Default of ``--repeat``.
    """
    parser.add_argument('--device', default='cuda' if torch.cuda.is_available() else 'cpu', help='cpu, cuda, cuda:1, …')
    parser.add_argument('--dtype', choices=DTYPES, default='float32', help='type of the feature maps')
    parser.add_argument('--layout', choices=LAYOUTS, default='contiguous', help='memory layout')
    parser.add_argument('--batch', type=int, default=1, help='samples')
    parser.add_argument('--repeat', type=int, default=repeat, help='rounds, of which the median is taken')
    parser.add_argument('--out', type=Path, metavar='FILE.json', help='write the figures here')


def parse_benchmark(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """Parse, and refuse numbers below 1, a device that can't be measured here and a file that can't be written.

    The folder of ``--out`` is created.
    """
    args = parser.parse_args()
    if args.batch < 1 or args.repeat < 1:
        parser.error('--batch and --repeat must be 1 at least')
    try:
        args.device = usable_device(args.device)
    except ValueError as error:
        parser.error(f'--device: {error}')
    if args.out:
        if args.out.suffix != '.json' or args.out.is_dir():
            parser.error(f'--out {args.out}: must be a file whose name ends in .json')
        try:
            args.out.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            parser.error(f'--out {args.out}: its folder cannot be created: {error.strerror}')
        if not os.access(args.out if args.out.exists() else args.out.parent, os.W_OK):
            parser.error(f'--out {args.out}: can not be written')
    return args
