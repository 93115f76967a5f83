"""Check a config's data sets before training: annotation files, classes, and every image."""

import argparse
import time

import ean_mmdet  # noqa: F401, registers the modules
from ean_mmdet import engine
from ean_mmdet.datasets import Checked, check_data
from ean_mmdet.errors import InputError

SPLITS = ('train', 'val', 'test')


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    engine.add_config_arguments(parser)
    parser.add_argument('--decode', action='store_true', help='decode every image, not only read its header')
    return parser.parse_args()


def describe(checked: Checked) -> str:
    """Say what was found of a data set in a line, which is good only where nothing was left unchecked."""
    used = f'{checked.images} images, {checked.kept} of {checked.boxes} boxes used' if checked.images else checked.kind
    return f'not checked: {"; ".join(checked.unchecked)} ({used})' if checked.unchecked else f'good: {used}'


def main() -> None:
    args = parse_args()
    with engine.user_errors():
        config = engine.load_config(args.config, args.cfg_options)
        if not any(config.get(f'{split}_dataloader') for split in SPLITS):
            raise InputError(f'{args.config} has no data to check: no train_, val_ or test_dataloader')
        problems = []
        for split in SPLITS:
            if config.get(f'{split}_dataloader') is None:
                continue
            begin = time.perf_counter()
            try:
                found = check_data(config, (split,), args.decode)[split]
            except InputError as error:
                problems.append(str(error))
                print(f'{split}: {error}')
            else:
                for checked in found:
                    print(f'{split}: {describe(checked)} ({time.perf_counter() - begin:.1f} s)')
        if problems:
            raise InputError(f'{len(problems)} of the data sets cannot be used as they are, see above')


if __name__ == '__main__':
    main()
