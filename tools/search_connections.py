"""Search which blocks of a backbone should have attention: train a supernet, search in it, write what is found.

Attention is shared by the blocks of a stage. Everything is judged on a part of the training data that the supernet
isn't trained on; the validation set stays unseen. Run again with the same work dir, it goes on where it was stopped.
"""

import argparse
import json
import logging
from pathlib import Path

from mmengine.config import Config
from mmengine.dist import is_main_process
from mmengine.logging import MMLogger
from mmengine.runner import Runner
from rich.progress import Progress

from ean_mmdet import engine
from ean_mmdet.checkpoint import latest_checkpoint, load_local
from ean_mmdet.datasets import check_data
from ean_mmdet.errors import InputError
from ean_mmdet.files import make_folder, write_text
from ean_mmdet.insertion import positions
from ean_mmdet.search import STRATEGIES, SchemeEvaluator, Search, Seen, supernet_config, write_config, write_picture


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    engine.add_config_arguments(parser)
    engine.add_run_arguments(parser)
    parser.add_argument(
        '--strategy', choices=STRATEGIES, default='controller', help="controller: the paper's (default: %(default)s)"
    )
    parser.add_argument(
        '--budget',
        type=int,
        default=900,
        help="schemes to propose; one that comes again isn't evaluated again (default: 900, the paper's 300 steps)",
    )
    parser.add_argument('--metric', help="metric to search by, such as accuracy/top1 (default: the evaluator's first)")
    parser.add_argument(
        '--sparsity', type=float, default=2.0, help='what the share of blocks without attention adds (default: 2)'
    )
    parser.add_argument(
        '--held-out', type=float, default=0.1, help='share of the training data to judge on (default: 0.1)'
    )
    parser.add_argument(
        '--norm-batches',
        type=int,
        default=4,
        help="training batches that a scheme's batch norms are re-estimated on before it is judged; 0: not at all, as "
        'in the paper (default: 4)',
    )
    parser.add_argument('--seed', type=int, default=0, help='seed of split, schemes and search (default: 0)')
    args = engine.parse(parser)
    if args.budget < 1:
        parser.error('--budget takes a number from 1 on')
    if not 0 < args.held_out < 1:
        parser.error('--held-out takes a share between 0 and 1')
    return args


def check_settings(folder: Path, settings: dict) -> None:
    """See that a work dir isn't of another split, whose supernet has been trained on what would be held out now."""
    path = folder / 'split.json'
    if path.is_file() and json.loads(path.read_text()) != settings:
        raise InputError(f'{folder} is of a search with {path.read_text()}, not {settings}; take another --work-dir')
    make_folder(folder)
    write_text(path, json.dumps(settings))


def train_supernet(config: Config, launcher: str) -> Runner:
    """The runner of the supernet, trained; from its last checkpoint where there is one."""
    validation = {key: config.pop(key, None) for key in ('val_dataloader', 'val_cfg', 'val_evaluator')}
    for key in ('test_dataloader', 'test_cfg', 'test_evaluator'):
        config.pop(key, None)
    checkpoint = config.get('default_hooks', {}).get('checkpoint')
    if checkpoint:
        checkpoint.pop('save_best', None)  # it isn't validated
        checkpoint.pop('rule', None)
    config.load_from = latest_checkpoint(config.work_dir)
    config.resume = config.load_from is not None
    runner = engine.build_runner(config, launcher)
    if config.resume and _is_trained(config, load_local(config.load_from)['meta']):
        runner.load_checkpoint(config.load_from)
    else:
        runner.train()
    runner.cfg.update({key: value for key, value in validation.items() if value is not None})
    return runner


def _is_trained(config: Config, meta: dict) -> bool:
    train = config.train_cfg
    return meta['iter'] >= train.max_iters if train.get('max_iters') else meta['epoch'] >= train.max_epochs


def main() -> None:
    args = parse_args()
    with engine.user_errors():
        config = engine.load_config(args.config, args.cfg_options)
        engine.set_work_dir(config, args.work_dir, args.config)
    with engine.user_errors(config.work_dir):
        if engine.is_main_process() and not args.no_check:
            check_data(config, ('train',))
        folder = Path(config.work_dir)
        if engine.is_main_process():
            check_settings(folder, dict(seed=args.seed, held_out=args.held_out))
        config = supernet_config(config, args.held_out, args.seed)
        config.work_dir = str(folder / 'supernet')
        runner = train_supernet(config, args.launcher)
        MMLogger.get_current_instance().setLevel(logging.WARNING)
        blocks = [position.norm.removeprefix('module.') for position in positions(runner.model)]
        evaluate = SchemeEvaluator(runner, args.metric, args.norm_batches)
        strategy = STRATEGIES[args.strategy](len(blocks), args.seed)
        search = Search(strategy, evaluate, folder / f'schemes_{args.norm_batches}_norm_batches.jsonl', args.sparsity)
        with Progress(disable=not is_main_process()) as bar:
            task = bar.add_task('Searching', total=args.budget)
            seen = search.run(args.budget, lambda _: bar.advance(task), write=is_main_process())
        if is_main_process():
            write_result(args, folder, seen, blocks, evaluate.metric or 'metric')
    engine.finish()


def write_result(args: argparse.Namespace, folder: Path, seen: list[Seen], blocks: list[str], metric: str) -> None:
    best = seen[0]
    scheme = ''.join(map(str, best.scheme))
    note = (
        f'Found by tools/search_connections.py --strategy {args.strategy} --budget {args.budget} --seed {args.seed}: '
        f'{best.accuracy:.2f} in the supernet.'
    )
    stem = f'{Path(args.config).stem}_{args.strategy}'
    write_config(folder / f'{stem}.py', Path(args.config), best, note)
    picture = folder / f'{stem}.png'
    write_picture(picture, seen, best, blocks, metric)
    entries = [dict(scheme=entry.scheme, accuracy=entry.accuracy, reward=entry.reward) for entry in seen]
    write_text(folder / f'{stem}.json', json.dumps(dict(blocks=blocks, found=scheme, schemes=entries), indent=1))
    print(f'{len(seen)} schemes evaluated; the best is {scheme}, {best.accuracy:.2f} in the supernet')
    print(f'train it from scratch: python tools/train.py {folder / stem}.py')
    print(f'every scheme is in {folder / stem}.json, a picture in {picture}')


if __name__ == '__main__':
    main()
