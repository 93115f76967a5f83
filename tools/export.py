"""Export a checkpoint: ONNX in standard operators, or torch.export, with all in the file that running it needs."""

import argparse
import tempfile
from pathlib import Path

from ean_mmdet import engine
from ean_mmdet.checkpoint import load_complete, moment
from ean_mmdet.datasets import config_classes
from ean_mmdet.deploy import export_onnx, export_torch, to_deploy
from ean_mmdet.deploy.int8 import MODES, calibration_images, calibration_inputs, quantize
from ean_mmdet.deploy.onnx_export import description, size_divisor
from ean_mmdet.engine import build_model, input_shape
from ean_mmdet.errors import InputError

SUFFIXES = dict(onnx='.onnx', torch='.pt2')


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    engine.add_config_arguments(parser)
    parser.add_argument('checkpoint', help='path or URL of the checkpoint')
    parser.add_argument('--format', choices=SUFFIXES, default='onnx', help='format (default: %(default)s)')
    parser.add_argument(
        '--out',
        type=Path,
        help='the file (default: beside the checkpoint, under its name, with _raw, _dynamic or _static)',
    )
    parser.add_argument(
        '--shape',
        type=int,
        nargs=2,
        metavar=('HEIGHT', 'WIDTH'),
        help='one size for all images (default: any size where the test pipeline keeps the ratio of the sides and the '
        'detector is no SSD, else the size of the test pipeline)',
    )
    parser.add_argument('--raw', action='store_true', help="give a detector's heads' maps instead of boxes")
    parser.add_argument(
        '--int8',
        choices=MODES,
        help='convolutions and matrix products in 8 bits: the range of activations taken for every input anew '
        '(dynamic), or once from the images of --calibration (static)',
    )
    parser.add_argument(
        '--calibration', type=Path, metavar='FOLDER', help='images, of the training data, for --int8 static'
    )
    parser.add_argument(
        '--calibration-images', type=int, default=64, help='how many of them, spread evenly (default: 64)'
    )
    args = engine.parse(parser)
    if args.int8 and args.format != 'onnx':
        parser.error('--int8 is about --format onnx')
    if args.int8 == 'static' and not args.calibration:
        parser.error('--int8 static needs --calibration FOLDER, images to take the range of activations from')
    if args.calibration_images < 1:
        parser.error('--calibration-images takes a number from 1 on')
    if args.calibration and args.int8 != 'static':
        parser.error('--calibration is about --int8 static')
    return args


def main() -> None:
    args = parse_args()
    suffix = SUFFIXES[args.format]
    beside = Path(args.checkpoint.rpartition('/')[2] if '://' in args.checkpoint else args.checkpoint)
    kind = ''.join(f'_{name}' for name in ('raw' if args.raw else '', args.int8) if name)
    out = args.out or beside.with_name(f'{beside.stem}{kind}{suffix}')
    with engine.user_errors(out.parent):
        if out.suffix != suffix:
            raise InputError(f'--out {out}: --format {args.format} is written to a file that ends in {suffix}')
        images = calibration_images(args.calibration, args.calibration_images) if args.calibration else []
        config = engine.load_config(args.config, args.cfg_options)
        size = tuple(args.shape) if args.shape else input_shape(config)
        model = build_model(config)
        content = load_complete(model, args.checkpoint)
        print(f'writing {out}', flush=True)
        graph = to_deploy(model, args.raw)
        divisor = None if args.shape else size_divisor(config, model)
        about = description(config, graph, config_classes(config), size, divisor)
        about |= dict(checkpoint=args.checkpoint, **moment(content))
        if args.format == 'torch':
            export_torch(graph, size, out, about, divisor)
        elif not args.int8:
            export_onnx(graph, size, out, about, divisor)
        else:
            with tempfile.TemporaryDirectory() as folder:
                whole = Path(folder, 'float.onnx')
                export_onnx(graph, size, whole, about, divisor)
                inputs = calibration_inputs(config, model.data_preprocessor, images, None if divisor else size)
                quantize(whole, out, args.int8, inputs)
    shape = f'any multiple of {divisor}' if divisor else f'{size[0]} × {size[1]}'
    print(
        f'wrote {out} ({out.stat().st_size / 1e6:.1f} MB): {", ".join(graph.inputs)} → {", ".join(graph.outputs)}; '
        f'height × width: {shape}'
    )


if __name__ == '__main__':
    main()
