"""Show what a trained network's attention maps do: α, δ, ω and the map by block, and the metric without it."""

import argparse
import contextlib
import io
from itertools import islice
from pathlib import Path

import torch

from ean_mmdet import engine
from ean_mmdet.analysis.attention_maps import (
    attention_maps,
    eans,
    map_statistics,
    maps_replaced,
    write_overlays,
    write_picture,
)
from ean_mmdet.checkpoint import load_complete
from ean_mmdet.datasets import check_data
from ean_mmdet.datasets.pipeline import preprocess, read_image
from ean_mmdet.errors import InputError
from ean_mmdet.files import claim, find_images, left_out, picture_names
from ean_mmdet.table import Table


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    engine.add_config_arguments(parser)
    parser.add_argument('checkpoint', help='path or URL of the checkpoint')
    engine.add_run_arguments(parser)
    parser.add_argument('--batches', type=int, default=8, help='batches of test images to look at (default: 8)')
    parser.add_argument(
        '--evaluate',
        action='store_true',
        help='evaluate with the attention maps, with their means by channel, and with one mean',
    )
    parser.add_argument(
        '--images',
        type=Path,
        metavar='IMAGE_OR_FOLDER',
        help='draw the attention maps over these too, into a folder named like --out',
    )
    parser.add_argument(
        '--eans', nargs='+', metavar='NAME', help='which EANs (default: the last of each size of feature map)'
    )
    parser.add_argument(
        '--out',
        type=Path,
        help='the picture (default: attention_maps.png, or attention_maps-2.png, … where one of another network is)',
    )
    args = engine.parse(parser)
    if args.batches < 1:
        parser.error('--batches takes a number from 1 on')
    if args.eans and not args.images:
        parser.error('--eans chooses what is drawn over the --images')
    if args.out and args.out.suffix not in ('.png', '.pdf', '.svg', '.jpg'):
        parser.error(f'--out {args.out}: end it in .png, .pdf, .svg or .jpg')
    return args


def main() -> None:
    args = parse_args()
    with engine.user_errors():
        config = engine.load_config(args.config, args.cfg_options)
        engine.set_work_dir(config, args.work_dir, args.config)
        images = find_images(args.images) if args.images else []
    with engine.user_errors(config.work_dir):
        if not args.no_check:
            check_data(config, ('test',))
        runner = engine.build_runner(config)
        load_complete(runner.model, args.checkpoint)
        model = runner.model.eval()
        eans(model, args.eans)
        loader = runner.build_dataloader(config.test_dataloader, seed=runner.seed)
        statistics = map_statistics(model, lambda: (model.test_step(batch) for batch in islice(loader, args.batches)))
        rows = [
            (e.name, *map(float, (e.alpha.abs().mean(), e.delta.mean(), e.mean.mean(), e.deviation, e.between)))
            for e in statistics
        ]
        header = ('EAN', 'α, mean of the size', 'δ, mean', 'map, mean', 'spread over pixels', 'spread over channels')
        print(Table.of('', header, rows).markdown(), end='')
        inputs = dict(config=args.config, checkpoint=args.checkpoint, images=args.images)
        out = claim(args.out, Path('attention_maps.png'), **inputs)
        write_picture(out, statistics)
        root = args.images if args.images and args.images.is_dir() else images[0].parent if images else Path()
        pictures, unreadable = picture_names(images, root, '.png'), []
        for path in images:
            try:
                image = read_image(path)
            except InputError as error:
                unreadable.append(str(error))
                continue
            data = preprocess(config, model.data_preprocessor, path)
            maps = attention_maps(model, lambda data=data: model(**data, mode='tensor'), args.eans)
            padded = data['inputs'].shape[2:]
            shares = [side / whole for side, whole in zip(data['data_samples'][0].img_shape, padded)]
            write_overlays(out.with_suffix('') / pictures[path], image, maps, shares)
        if args.evaluate:
            evaluate(runner, model, loader, statistics)
        drawn = len(images) - len(unreadable)
        print(f'wrote {out}' + (f' and {drawn} pictures in {out.with_suffix("")}' if images else ''))
        left_out(unreadable, len(images))


def evaluate(runner, model, loader, statistics) -> None:
    evaluator = runner.build_evaluator(runner.cfg.test_evaluator)
    evaluator.dataset_meta = loader.dataset.metainfo
    for by in ('as trained', 'channel means', 'one mean'):
        replaced = contextlib.nullcontext() if by == 'as trained' else maps_replaced(model, statistics, by)
        with replaced, torch.no_grad(), contextlib.redirect_stdout(io.StringIO()):
            for batch in loader:
                evaluator.process(data_samples=model.test_step(batch), data_batch=batch)
            metrics = evaluator.evaluate(len(loader.dataset))
        print(f'{by}: ' + ', '.join(f'{name} {value:.4f}' for name, value in metrics.items()))


if __name__ == '__main__':
    main()
