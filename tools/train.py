"""Train a model. MMDetection's arguments; runs on GPUs, and without one on the CPU."""

import argparse

from mmengine.device import get_device

import ean_mmdet  # noqa: F401, registers the modules
from ean_mmdet import engine
from ean_mmdet.checkpoint import latest_checkpoint
from ean_mmdet.datasets import check_data
from ean_mmdet.errors import InputError


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Train a model')
    engine.add_config_arguments(parser)
    engine.add_run_arguments(parser)
    engine.add_backend_argument(parser)
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
    return engine.parse(parser)


def main() -> None:
    args = parse_args()
    with engine.user_errors():
        config = engine.load_config(args.config, args.cfg_options, ('train', 'val'))
        engine.set_work_dir(config, args.work_dir, args.config)
        engine.use_backends(config, args.vis_backend)
    with engine.user_errors(config.work_dir):
        if args.amp:
            if get_device() == 'cpu':
                raise InputError("--amp needs a GPU: mmengine's AmpOptimWrapper has no mode for the CPU")
            config.optim_wrapper.type = 'AmpOptimWrapper'
            config.optim_wrapper.setdefault('loss_scale', 'dynamic')
        if args.auto_scale_lr:
            if 'base_batch_size' not in config.get('auto_scale_lr', {}):
                raise InputError(f'{args.config} has no auto_scale_lr.base_batch_size, which --auto-scale-lr needs')
            config.auto_scale_lr.enable = True
        if args.resume:
            config.load_from = latest_checkpoint(config.work_dir) if args.resume == 'auto' else args.resume
            config.resume = config.load_from is not None
        if engine.is_main_process() and not args.no_check:
            check_data(config)
        runner = engine.build_runner(config, args.launcher)
        runner.train()
    runner.logger.info(f'Done. Checkpoints and logs are in {runner.work_dir}')
    engine.finish()


if __name__ == '__main__':
    main()
