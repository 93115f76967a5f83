"""Evaluate a detector's or a classifier's checkpoint. MMDetection's arguments; without a GPU it runs on the CPU."""

import argparse
import inspect
from pathlib import Path

from mmengine.config import Config
from mmengine.registry import TRANSFORMS
from mmengine.runner import Runner

import ean_mmdet  # noqa: F401, registers the modules
from ean_mmdet import engine
from ean_mmdet.datasets import check_data
from ean_mmdet.datasets.config_parts import (
    is_classifier,
    pipeline_of,
    set_pipeline,
    type_class,
    type_name,
)
from ean_mmdet.errors import InputError
from ean_mmdet.evaluation import results
from ean_mmdet.hooks import SafeCheckpointHook


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Evaluate the checkpoint of a detector or a classifier')
    engine.add_config_arguments(parser)
    parser.add_argument('checkpoint', help='path or URL of the checkpoint, or an .onnx file of tools/export.py')
    engine.add_run_arguments(parser)
    engine.add_backend_argument(parser)
    parser.add_argument(
        '--out',
        type=Path,
        metavar='FILE.json',
        help='write the predictions as COCO results, of a classifier the five best classes of each image; what '
        'made them goes to FILE.info.json',
    )
    parser.add_argument('--show', action='store_true', help='show each picture in a window')
    parser.add_argument(
        '--show-dir',
        help='write each picture with its predictions: a detector to WORK_DIR/TIMESTAMP/SHOW_DIR, a classifier to '
        'WORK_DIR/SHOW_DIR',
    )
    parser.add_argument('--wait-time', type=float, default=2, help='seconds that --show shows a picture (default: 2)')
    parser.add_argument('--tta', action='store_true', help="test-time augmentation: the config's, or flipping")
    args = engine.parse(parser)
    if args.out and args.out.suffix != '.json':
        parser.error(f'--out must end in .json, got {args.out}')
    return args


def add_pictures(config: Config, args: argparse.Namespace) -> None:
    hook = config.get('default_hooks', {}).get('visualization')
    kind = 'VisualizationHook' if is_classifier(config) else 'DetVisualizationHook'
    if hook is None:
        raise InputError(
            f'{args.config} has no default_hooks.visualization, which --show and --show-dir need: '
            f"default_hooks = dict(visualization=dict(type='{kind}'))"
        )
    if is_classifier(config):
        if args.tta:
            raise InputError("--show and --show-dir don't go with --tta: MMPretrain draws no augmented images")
        hook.enable, hook.interval = True, 1
        hook.out_dir = args.show_dir and str(Path(config.work_dir, args.show_dir))
    else:
        hook.draw = True
        if type_name(hook) == 'DetVisualizationHook':
            hook.type = 'NamedPicturesHook'
        if args.show_dir:
            hook.test_out_dir = args.show_dir
    if args.show:
        hook.show, hook.wait_time = True, args.wait_time


def add_test_time_augmentation(config: Config) -> None:
    # with the library in a name that is its own, for configs that have classes for types and no default scope
    if 'tta_model' not in config and is_classifier(config):
        config.tta_model = dict(type='mmpretrain.AverageClsScoreTTA')
    elif 'tta_model' not in config:
        nms = dict(type='nms', iou_threshold=0.5)
        config.tta_model = dict(type='DetTTAModel', tta_cfg=dict(nms=nms, max_per_img=100))
    if 'tta_pipeline' not in config:
        *steps, pack = pipeline_of(config)
        if not is_classifier(config):
            default = inspect.signature(type_class(config, pack, TRANSFORMS)).parameters['meta_keys'].default
            keys = [*(pack.get('meta_keys') or default), 'flip', 'flip_direction']
            pack = dict(pack, meta_keys=list(dict.fromkeys(keys)))
        flip = 'RandomFlip' if is_classifier(config) else 'mmdet.RandomFlip'
        flips = [dict(type=flip, prob=probability) for probability in (1.0, 0.0)]
        config.tta_pipeline = [*steps, dict(type='TestTimeAug', transforms=[flips, [pack]])]
    config.model = dict(config.tta_model, module=config.model)
    set_pipeline(config, config.tta_pipeline)


def write_predictions(runner: Runner, out: Path) -> None:
    """Have the test write its predictions too."""
    metric = results.WriteClasses(str(out))
    if not is_classifier(runner.cfg):
        metric = results.WriteDetections(str(out), results.category_ids(runner.test_loop.dataloader.dataset))
    runner.test_evaluator.metrics.append(metric)


def loaded(runner: Runner) -> dict:
    """The checkpoint that was tested, and the moment of training that it is of."""
    hook = next((hook for hook in runner.hooks if isinstance(hook, SafeCheckpointHook)), None)
    about = getattr(runner.model, 'about', {})  # an exported model's
    return {key: about[key] for key in ('iteration', 'epoch') if key in about} | (hook.loaded if hook else {})


def main() -> None:
    args = parse_args()
    with engine.user_errors():
        config = engine.load_config(args.config, args.cfg_options, ('test',))
        engine.set_work_dir(config, args.work_dir, args.config)
        engine.use_backends(config, args.vis_backend)
    with engine.user_errors(config.work_dir):
        if args.checkpoint.endswith('.onnx'):
            from ean_mmdet.deploy import use_exported

            use_exported(config, args.checkpoint)
        else:
            config.load_from = args.checkpoint
        if args.show or args.show_dir:
            add_pictures(config, args)
        if args.tta:
            add_test_time_augmentation(config)
        if engine.is_main_process() and not args.no_check:
            check_data(config, ('test',))
        runner = engine.build_runner(config, args.launcher)
        if args.out:
            write_predictions(runner, args.out)
        metrics = runner.test()
        made_by = loaded(runner) | dict(config=args.config, checkpoint=args.checkpoint)
        if Path(args.checkpoint).is_file():
            made_by['checkpoint'] = str(Path(args.checkpoint).resolve())
        if args.out and engine.is_main_process():
            results.write_info(args.out, **made_by, metrics=metrics)
    runner.logger.info('Tested ' + ', '.join(f'{key} {value}' for key, value in made_by.items()))
    if args.out:
        runner.logger.info(f'Predictions are in {args.out.resolve()}')
    if args.show_dir:
        run = '' if is_classifier(config) else runner.timestamp
        runner.logger.info(f'Pictures are in {Path(runner.work_dir, run, args.show_dir)}')
    engine.finish()


if __name__ == '__main__':
    main()
