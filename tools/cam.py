"""Class activation maps: what in an image a classifier's or detector's score comes from, several networks side by side.

After the image come configs, each followed by its checkpoints: cam.py cells/ plain.py plain.pth ean.py ean.pth
"""

import argparse
from pathlib import Path

from mmengine.device import get_device
from rich.progress import track

from ean_mmdet import engine
from ean_mmdet.analysis.cam import METHODS, activation, check_target, default_layers, find_layers, write_picture
from ean_mmdet.checkpoint import load_complete
from ean_mmdet.datasets import config_classes
from ean_mmdet.datasets.pipeline import preprocess, read_image
from ean_mmdet.engine import build_model
from ean_mmdet.errors import InputError
from ean_mmdet.files import claim, find_images, left_out, picture_names


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('images', type=Path, metavar='IMAGE_OR_FOLDER', help='an image, or a folder that is searched')
    parser.add_argument('models', nargs='+', metavar='CONFIG CHECKPOINT', help='configs, each before its checkpoints')
    parser.add_argument('--legend', nargs='+', help="the networks' names (default: those of the checkpoints)")
    parser.add_argument(
        '--method', choices=METHODS, help='method (default: gradcam for classifiers, hirescam for detectors)'
    )
    parser.add_argument(
        '--target',
        default='best',
        help='the score to explain: best, a number in the order of scores from 0 on, or a class (default: best)',
    )
    parser.add_argument('--top', type=int, default=1, help='how many of the best detections, summed (default: 1)')
    parser.add_argument(
        '--layer',
        nargs='+',
        help="layers, their maps averaged (default: a classifier's last stage, all that a detector's neck reads)",
    )
    parser.add_argument(
        '--out-dir',
        type=Path,
        help='folder for pictures, without those of other images or networks (default: cam, or cam-2, … where there '
        'are some)',
    )
    parser.add_argument('--device', default=get_device(), help='device, such as cuda:0 or cpu (default: %(default)s)')
    args = engine.parse(parser)
    if args.top < 1:
        parser.error('--top takes a number from 1 on')
    return args


def pairs(models: list[str]) -> list[tuple[str, str]]:
    """Each checkpoint with the config before it."""
    found, config = [], None
    for entry in models:
        if entry.endswith('.py'):
            config = entry
        elif config is None:
            raise InputError(f'{entry}: the config, a .py file, comes before its checkpoint')
        else:
            found.append((config, entry))
    if not found or models[-1].endswith('.py'):
        raise InputError(f'{models[-1]}: no checkpoint comes after it')
    return found


def main() -> None:
    args = parse_args()
    default = Path('cam')
    with engine.user_errors(args.out_dir or default):
        chosen = pairs(args.models)
        if args.legend and len(args.legend) != len(chosen):
            raise InputError(f'--legend has {len(args.legend)} names for {len(chosen)} checkpoints')
        legend = args.legend or [Path(checkpoint).stem for _, checkpoint in chosen]
        if len(set(legend)) < len(legend):
            legend = [f'{number} {name}' for number, name in enumerate(legend, 1)]
        images = find_images(args.images)
        engine.check_device(args.device)
        networks = []
        for config_file, checkpoint in chosen:
            config = engine.load_config(config_file, None)
            classes = config_classes(config)
            check_target(args.target, classes)
            model = build_model(config)
            load_complete(model, checkpoint)
            model.to(args.device)
            find_layers(model, args.layer or default_layers(model))
            networks.append((config, model, classes))
        out = claim(args.out_dir, default, images=args.images, networks=args.models)
        root, written = args.images if args.images.is_dir() else args.images.parent, 0
        pictures, unreadable = picture_names(images, root, '.png'), []
        for path in track(images, description='Explaining'):
            try:
                image = read_image(path)
            except InputError as error:
                unreadable.append(str(error))
                continue
            found, nothing = {}, []
            for name, (config, model, classes) in zip(legend, networks):
                data = preprocess(config, model.data_preprocessor, path)
                try:
                    found[name] = activation(model, data, classes, args.method, args.layer, args.target, args.top)
                except InputError as error:
                    if len(images) == 1 and len(networks) == 1:
                        raise
                    nothing.append(f'{path}, {name}: {error}')
            for line in nothing:
                print(line)
            if found:
                write_picture(out / pictures[path], image, found, path.name)
                written += 1
        if not written and not unreadable:
            raise InputError(f'there is nothing to show in any of the {len(images)} images, see above')
        print(f'{written} pictures are in {out}')
        left_out(unreadable, len(images))


if __name__ == '__main__':
    main()
