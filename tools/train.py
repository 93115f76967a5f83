"""Train a model. MMDetection's arguments; runs on GPUs, and without one on the CPU."""

import argparse
import os

from mmengine.config import DictAction

import ean_mmdet  # noqa: F401, registers the modules
from ean_mmdet.datasets import check_data
from ean_mmdet.engine import build_runner, load_config, set_work_dir, user_errors


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Train a model')
    parser.add_argument('config', help='path of the config')
    parser.add_argument('--work-dir', help='folder for logs and checkpoints (default: work_dirs/CONFIG_NAME)')
    parser.add_argument('--amp', action='store_true', help='train in automatic mixed precision')
    parser.add_argument(
        '--auto-scale-lr',
        action='store_true',
        help="scale the learning rate by the total batch over the config's auto_scale_lr.base_batch_size",
    )
    parser.add_argument(
        '--resume',
        nargs='?',
        const='auto',
        metavar='CHECKPOINT',
        help='go on from a checkpoint; without a path, from the latest in the work dir',
    )
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        metavar='KEY=VALUE',
        help='override settings of the config, e.g. train_dataloader.batch_size=4 data_root=/data/coco/',
    )
    parser.add_argument(
        '--launcher', choices=['none', 'pytorch', 'slurm', 'mpi'], default='none', help='who started the processes'
    )
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0, help=argparse.SUPPRESS)
    args = parser.parse_args()
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    return args


def main() -> None:
    args = parse_args()
    with user_errors():
        config = load_config(args.config, args.cfg_options)
        set_work_dir(config, args.work_dir, args.config)
        if args.amp:
            config.optim_wrapper.type = 'AmpOptimWrapper'
            config.optim_wrapper.loss_scale = 'dynamic'
        if args.auto_scale_lr:
            if 'base_batch_size' not in config.get('auto_scale_lr', {}):
                raise ValueError(f'{args.config} has no auto_scale_lr.base_batch_size, which --auto-scale-lr needs')
            config.auto_scale_lr.enable = True
        if args.resume:
            config.resume = True
            config.load_from = None if args.resume == 'auto' else args.resume
        if os.environ.get('RANK', os.environ.get('SLURM_PROCID', '0')) == '0':
            check_data(config)
        runner = build_runner(config, args.launcher)
    runner.train()
    runner.logger.info(f'Done. Checkpoints and logs are in {runner.work_dir}')


if __name__ == '__main__':
    main()
