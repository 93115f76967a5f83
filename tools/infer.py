"""Detect objects in an image or a folder of images: pictures, and the detections as COCO-style JSON."""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import mmcv
from mmdet.apis import inference_detector
from mmdet.models import BaseDetector
from mmdet.registry import MODELS, VISUALIZERS
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import init_default_scope
from rich.progress import track
from torch import nn

from ean_mmdet import engine
from ean_mmdet.checkpoint import load_complete, moment
from ean_mmdet.datasets.config_parts import config_metainfo, datasets_of, scope_of
from ean_mmdet.datasets.pipeline import read_image
from ean_mmdet.errors import InputError
from ean_mmdet.files import claim, find_images, left_out, picture_names, write_text


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('images', type=Path, metavar='IMAGE_OR_FOLDER', help='an image, or a folder that is searched')
    engine.add_config_arguments(parser)
    parser.add_argument('checkpoint', help='path or URL of the checkpoint, or an .onnx file of tools/export.py')
    parser.add_argument(
        '--out-dir',
        type=Path,
        help='folder for the results, without those of other images or another checkpoint (default: outputs, or '
        'outputs-2, … where there are some)',
    )
    parser.add_argument('--score-thr', type=float, default=0.3, help='least score of a drawn box (default: 0.3)')
    parser.add_argument('--device', default=get_device(), help='device, such as cuda:0 or cpu (default: %(default)s)')
    return engine.parse(parser)


def load_model(config: Config, source: str, device: str) -> nn.Module:
    """The detector with the checkpoint's weights, and its ``dataset_meta``."""
    engine.check_device(device)
    # not by mmdet's init_detector, which says that it takes COCO's classes where it gets no checkpoint
    model = revert_sync_batchnorm(engine.build_model(config))
    if not isinstance(model, BaseDetector):
        raise InputError(f'the model of the config, {type(model).__name__}, is no detector')
    checkpoint = load_complete(model, source)
    meta = checkpoint.get('meta')
    meta = meta.get('dataset_meta') if isinstance(meta, dict) else None
    if not isinstance(meta, dict) or 'classes' not in {key.lower() for key in meta}:
        meta = config_metainfo(config)
    model.dataset_meta = {key.lower(): value for key, value in meta.items()}
    model.cfg = config
    model.made_by = dict(checkpoint=source, **moment(checkpoint))
    return model.to(device).eval()


def load_exported_model(config: Config, path: str) -> nn.Module:
    """An exported detector, with what mmdet's inference asks of one; mmdet's own isn't built."""
    from ean_mmdet.deploy import use_exported

    use_exported(config, path)
    model = MODELS.build(config.model)
    metainfo = config_metainfo(config)
    model.dataset_meta = {**{key.lower(): value for key, value in metainfo.items()}, **model.dataset_meta}
    model.cfg = config
    model.made_by = dict(checkpoint=path, **{k: v for k, v in model.about.items() if k in ('iteration', 'epoch')})
    return model.eval()


def category_ids(config: Config, classes: Sequence[str]) -> list[int]:
    """The data set's own category ids, by the annotation files of the config that are there; else 1, 2, 3, …"""
    for dataset in (part for split in ('test', 'val', 'train') for part in datasets_of(config, split)):
        file = Path(dataset.get('data_root') or '', dataset.get('ann_file') or '')
        if file.suffix == '.json' and file.is_file():
            try:
                ids = {category['name']: category['id'] for category in json.loads(file.read_bytes())['categories']}
            except (ValueError, KeyError, TypeError):
                continue
            if set(classes) <= set(ids):
                return [ids[name] for name in classes]
    return list(range(1, len(classes) + 1))


def main() -> None:
    args = parse_args()
    default = Path('outputs')
    with engine.user_errors(args.out_dir or default):
        images = find_images(args.images)
        config = engine.load_config(args.config, args.cfg_options)
        init_default_scope(scope_of(config))
        if args.checkpoint.endswith('.onnx'):
            model = load_exported_model(config, args.checkpoint)
        else:
            model = load_model(config, args.checkpoint, args.device)
        # its backends would warn that they have no folder; each picture is written by name
        visualizer = VISUALIZERS.build(dict(config.visualizer, vis_backends=None))
        visualizer.dataset_meta = model.dataset_meta
        classes = model.dataset_meta['classes']
        root = args.images if args.images.is_dir() else args.images.parent
        ids = category_ids(config, classes)
        categories = [dict(id=number, name=name) for number, name in zip(ids, classes)]
        result = dict(info=model.made_by, images=[], annotations=[], categories=categories)
        out = claim(args.out_dir, default, images=args.images, config=args.config, checkpoint=args.checkpoint)
        pictures, unreadable = picture_names(images, root), []
        for path in track(images, description='Detecting'):
            try:
                image = read_image(path)
            except InputError as error:
                unreadable.append(str(error))
                continue
            sample = inference_detector(model, mmcv.rgb2bgr(image))
            name = path.relative_to(root)
            visualizer.add_datasample(
                path.stem,
                image,
                data_sample=sample,
                draw_gt=False,
                pred_score_thr=args.score_thr,
                out_file=str(out / 'vis' / pictures[path]),
            )
            image_id = len(result['images']) + 1
            height, width = image.shape[:2]
            result['images'].append(dict(id=image_id, file_name=str(name), height=height, width=width))
            boxes = sample.pred_instances.cpu()
            for (x1, y1, x2, y2), score, label in zip(
                boxes.bboxes.tolist(), boxes.scores.tolist(), boxes.labels.tolist()
            ):
                result['annotations'].append(
                    dict(
                        id=len(result['annotations']) + 1,
                        image_id=image_id,
                        category_id=ids[label],
                        bbox=[x1, y1, x2 - x1, y2 - y1],
                        score=score,
                    )
                )
        file = out / 'detections.json'
        write_text(file, json.dumps(result))
        print(
            f'{len(result["images"])} pictures are in {out / "vis"}; the {len(result["annotations"])} '
            f'detections of any score are in {file}'
        )
        left_out(unreadable, len(images))


if __name__ == '__main__':
    main()
