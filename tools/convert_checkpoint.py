"""Convert the checkpoint of a plain network into one of the network with attention, which computes the same."""

import argparse
import logging

from mmengine.logging import MMLogger

import ean_mmdet  # noqa: F401, registers the modules
from ean_mmdet.checkpoint import convert_checkpoint
from ean_mmdet.engine import load_config, user_errors


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description='Convert the checkpoint of a plain network (a backbone, or a whole detector or classifier) into '
        'one of the network with attention that a config has. The norm in front of each attention module is scaled, '
        'so that the new network computes what the plain one did.'
    )
    parser.add_argument('source', metavar='SRC', help='plain checkpoint: path, https://…, torchvision://NAME, …')
    parser.add_argument('target', metavar='DST', help='file to write')
    parser.add_argument('--config', required=True, help='config whose model has the attention')
    parser.add_argument('--prefix', help='take only the keys that start with this, without it, e.g. backbone.')
    parser.add_argument('--dry-run', action='store_true', help='print what would be done, and write nothing')
    parser.add_argument('--force', action='store_true', help='replace DST where it exists')
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    # mmengine logs the initialization of every single parameter
    MMLogger.get_current_instance().setLevel(logging.WARNING)
    with user_errors():
        report = convert_checkpoint(
            args.source,
            args.target,
            load_config(args.config),
            prefix=args.prefix,
            force=args.force,
            dry_run=args.dry_run,
        )
    print(report)
    if args.dry_run:
        print(f'Dry run: {args.target} is not written.')
        return
    if all(key.startswith('backbone.') for key in report.match.tensors) and not report.match.region:
        use = f"in the backbone: init_cfg=dict(type='Pretrained', checkpoint='{args.target}', prefix='backbone.')"
    elif report.match.region or not report.match.own_prefix:
        use = f"in the backbone: init_cfg=dict(type='Pretrained', checkpoint='{args.target}')"
    else:
        use = f'for the whole model: load_from = {args.target!r}, or tools/test.py {args.config} {args.target}'
    print(f'Written. Use it {use}')


if __name__ == '__main__':
    main()
