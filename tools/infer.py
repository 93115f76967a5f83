"""Detect objects in an image or a folder of images: pictures, and the detections as COCO-style JSON."""

import argparse
import json
from pathlib import Path

import mmcv
from mmdet.apis import inference_detector, init_detector
from mmdet.registry import VISUALIZERS
from mmengine.device import get_device
from mmengine.runner.checkpoint import CheckpointLoader
from rich.progress import track

from ean_mmdet import engine
from ean_mmdet.checkpoint import check_fit
from ean_mmdet.errors import InputError

SUFFIXES = ('.jpg', '.jpeg', '.png', '.bmp', '.tif', '.tiff', '.webp')


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('images', type=Path, metavar='IMAGE_OR_FOLDER', help='an image, or a folder that is searched')
    engine.add_config_arguments(parser)
    parser.add_argument('checkpoint', help='path or URL of the checkpoint')
    parser.add_argument(
        '--out-dir', type=Path, default=Path('outputs'), help='folder for the results (default: outputs)'
    )
    parser.add_argument('--score-thr', type=float, default=0.3, help='least score of a drawn box (default: 0.3)')
    parser.add_argument('--device', default=get_device(), help='device, such as cuda:0 or cpu (default: %(default)s)')
    return engine.parse(parser)


def find_images(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    images = sorted(p for p in path.rglob('*') if p.suffix.lower() in SUFFIXES)
    if not images:
        what = 'holds no image' if path.is_dir() else 'is neither an image nor a folder'
        raise InputError(f'{path} {what}; images end in {", ".join(SUFFIXES)}')
    return images


def main() -> None:
    args = parse_args()
    with engine.user_errors():
        images = find_images(args.images)
        config = engine.load_config(args.config, args.cfg_options)
        weights = CheckpointLoader.load_checkpoint(args.checkpoint, map_location='cpu')
        model = init_detector(config, args.checkpoint, device=args.device)
        check_fit(model, weights, args.checkpoint)
        visualizer = VISUALIZERS.build(config.visualizer)
        visualizer.dataset_meta = model.dataset_meta
        classes = model.dataset_meta['classes']
        root = args.images if args.images.is_dir() else args.images.parent
        result = dict(
            images=[], annotations=[], categories=[dict(id=i, name=name) for i, name in enumerate(classes, start=1)]
        )
        unreadable = []
        for path in track(images, description='Detecting'):
            image = mmcv.imread(str(path))
            if image is None:
                unreadable.append(path)
                continue
            sample = inference_detector(model, str(path))
            name = path.relative_to(root)
            visualizer.add_datasample(
                path.stem,
                mmcv.bgr2rgb(image),
                data_sample=sample,
                draw_gt=False,
                pred_score_thr=args.score_thr,
                out_file=str((args.out_dir / 'vis' / name).with_suffix('.jpg')),
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
                        category_id=label + 1,
                        bbox=[x1, y1, x2 - x1, y2 - y1],
                        score=score,
                    )
                )
        args.out_dir.mkdir(parents=True, exist_ok=True)
        file = args.out_dir / 'detections.json'
        file.write_text(json.dumps(result))
        print(
            f'{len(result["images"])} pictures are in {args.out_dir / "vis"}; the {len(result["annotations"])} '
            f'detections of any score are in {file}'
        )
        if unreadable:
            raise InputError(f'{len(unreadable)} files could not be read as images: {", ".join(map(str, unreadable))}')


if __name__ == '__main__':
    main()
