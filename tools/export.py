"""Export a checkpoint: ONNX in standard operators, or torch.export, with all in the file that running it needs."""

import argparse
from pathlib import Path

from ean_mmdet import engine
from ean_mmdet.analysis import build_model, input_shape
from ean_mmdet.checkpoint import load_whole
from ean_mmdet.datasets import config_classes
from ean_mmdet.deploy import export_onnx, export_torch, to_deploy
from ean_mmdet.deploy.onnx_export import description

SUFFIXES = dict(onnx='.onnx', torch='.pt2')


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    engine.add_config_arguments(parser)
    parser.add_argument('checkpoint', help='path or URL of the checkpoint')
    parser.add_argument('--format', choices=SUFFIXES, default='onnx', help='format (default: %(default)s)')
    parser.add_argument('--out', type=Path, help="the file (default: the checkpoint's name, in the folder)")
    parser.add_argument(
        '--shape',
        type=int,
        nargs=2,
        metavar=('HEIGHT', 'WIDTH'),
        help="size of the images (default: the test pipeline's)",
    )
    parser.add_argument('--raw', action='store_true', help="give a detector's heads' maps instead of boxes")
    return engine.parse(parser)


def main() -> None:
    args = parse_args()
    out = args.out or Path(Path(args.checkpoint).stem).with_suffix(SUFFIXES[args.format])
    with engine.user_errors(out.parent):
        config = engine.load_config(args.config, args.cfg_options)
        size = tuple(args.shape) if args.shape else input_shape(config)
        model = build_model(config)
        load_whole(model, args.checkpoint)
        graph = to_deploy(model, args.raw)
        about = description(config, graph, config_classes(config), size)
        dict(onnx=export_onnx, torch=export_torch)[args.format](graph, size, out, about)
    print(f'wrote {out} ({out.stat().st_size / 1e6:.1f} MB): {", ".join(graph.inputs)} → {", ".join(graph.outputs)}')


if __name__ == '__main__':
    main()
