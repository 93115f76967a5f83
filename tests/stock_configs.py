"""Checks the data of every config that MMDetection ships, over made-up annotation files at the paths that each names:
python -m tests.stock_configs

None may be refused: the files are right for the data set that the config names. A data set whose package isn't
installed is counted apart.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import pickle
import re
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any
from unittest import mock
from xml.etree import ElementTree

import mmdet
import numpy as np
from mmengine.config import Config
from mmengine.registry import DATASETS, DefaultScope
from PIL import Image
from rich.progress import track

import ean_mmdet  # noqa: F401, registers the modules
from ean_mmdet.datasets import check_data, images_check, masks_check
from ean_mmdet.datasets.config_parts import as_list, datasets_of, scope_of, type_class, type_name
from ean_mmdet.errors import InputError

CONFIGS = Path(mmdet.__path__[0], '.mim/configs')
SPLITS = ('train', 'val', 'test')
WIDTH, HEIGHT, IMAGES = 160, 120, 2
# Types whose annotations aren't COCO's.
# MMDetection 3.3 itself stops at these.
BROKEN = {'pascal_voc/faster-rcnn_r50_fpn_1x_voc0712-cocofmt.py': "unexpected keyword argument 'eval_mode'"}
OTHERS = ('ImageNet', 'DSDLDetDataset', 'DODDataset')


def stock_configs() -> list[Path]:
    """The configs that aren't bases of others."""
    return sorted(path for path in CONFIGS.rglob('*.py') if '_base_' not in path.relative_to(CONFIGS).parts)


def make_data(config: Config) -> None:
    """Write what the config's data sets and evaluators read, at the paths that it names below the current folder."""
    for split in SPLITS:
        for part in datasets_of(config, split):
            kind: Any = type_class(config, part, DATASETS)
            if part.get('metainfo') and isinstance(part['metainfo'].get('classes'), str):
                # of a file in MMDetection's repository
                name = Path(part['metainfo']['classes'])
                if not name.is_absolute():
                    part['metainfo']['classes'] = str(CONFIGS.parent / name)
            make(config, part, kind)
        for evaluator in as_list(config.get(f'{split}_evaluator')):
            for metric in evaluator.get('metrics', [evaluator]):
                missing = metric.get('ann_file') and not Path(metric['ann_file']).exists()
                if missing:
                    print(f'{config.filename}: evaluates on {metric["ann_file"]}, which no data set reads')


def make(config: Config, part: dict, kind: Any) -> None:
    """Write the annotations of one data set."""
    name, root = type_name(part), Path(part.get('data_root') or '')
    root.mkdir(parents=True, exist_ok=True)
    if name == 'ImageNet':
        (root / part.get('data_prefix', part.get('split', '')) / 'a class').mkdir(parents=True, exist_ok=True)
    if name in OTHERS:
        return
    file = root / part['ann_file']
    file.parent.mkdir(parents=True, exist_ok=True)
    if part.get('proposal_file'):
        boxes = {f'a/{number}.jpg': np.zeros((1, 5)) for number in range(1, IMAGES + 1)}
        make_pickle(root / part['proposal_file'], boxes)
    if name == 'V3DetDataset':
        names = root / 'annotations/category_name_13204_v3det_2023_v1.txt'
        names.write_text(''.join(f'{number}\n' for number in range(13204)))
    if name == 'YouTubeVISDataset':
        kind.set_dataset_classes(part['dataset_version'])
    with DefaultScope.overwrite_default_scope(scope_of(config)), contextlib.redirect_stdout(io.StringIO()):
        classes = kind._load_metainfo(part.get('metainfo')).get('classes') or ('one', 'two')
    if name == 'V3DetDataset':
        classes = tuple(map(str, range(13204)))
    if name in ('VOCDataset', 'WIDERFaceDataset'):
        make_voc(part, root, file, classes)
    elif name.startswith('OpenImages'):
        make_open_images(part, root, file, challenge='Challenge' in name)
    elif name == 'CrowdHumanDataset':
        boxes = [dict(tag='person', fbox=[4, 4, 60, 50], vbox=[4, 4, 60, 50], hbox=[4, 4, 5, 5], extra=dict(ignore=0))]
        file.write_text(''.join(json.dumps(dict(ID=f'{n}', gtboxes=boxes)) + '\n' for n in range(IMAGES)))
        for number in range(IMAGES):
            make_image(root / part['data_prefix']['img'] / f'{number}.jpg')
    elif name == 'ReIDDataset':
        file.write_text(''.join(f'{number}.jpg {number}\n' for number in range(IMAGES)))
    elif name == 'ODVGDataset':
        make_odvg(part, root, file)
    elif not file.exists():
        file.write_text(json.dumps(coco(name, classes)))


def coco(name: str, classes: tuple[str, ...]) -> dict:
    """A COCO file with a box of each class, and what the types beside CocoDataset read in it."""
    images, annotations = [], []
    for number in range(1, IMAGES + 1):
        image = dict(
            id=number, file_name=f'a/{number}.jpg', width=WIDTH, height=HEIGHT,
            coco_url=f'http://images.cocodataset.org/train2017/{number}.jpg',
            caption='one and two', dataset_name='refcoco', tokens_positive_eval=[[[0, 3]]],
            video_id=1, frame_id=number - 1, neg_category_ids=[], not_exhaustive_category_ids=[],
        )  # fmt: skip
        boxes = [
            dict(
                id=len(annotations) + label + 1, image_id=number, category_id=label + 1, bbox=[4, 4, 60, 50], area=3000,
                iscrowd=0, segmentation=[[4, 4, 24, 4, 24, 20]], phrase_ids=0, instance_id=label + 1, video_id=1,
                visibility=1.0, mot_conf=1.0,
            )
            for label in range(len(classes))
        ]  # fmt: skip
        images.append(image)
        annotations += boxes
    if name.startswith('LVIS'):  # which has no crowds, and in its first version no names of files
        for entry in annotations:
            del entry['iscrowd']
        for image in images if 'V1' in name else ():
            del image['file_name']
    if name == 'CocoPanopticDataset':
        annotations = [
            dict(image_id=image['id'], file_name='x.png', segments_info=[
                box for box in annotations if box['image_id'] == image['id']
            ])
            for image in images
        ]  # fmt: skip
    categories = [dict(id=number, name=text, isthing=int(number <= 80)) for number, text in enumerate(classes, start=1)]
    videos = [dict(id=1, name='a', width=WIDTH, height=HEIGHT)]
    return dict(images=images, annotations=annotations, categories=categories, videos=videos)


def make_voc(part: dict, root: Path, file: Path, classes: tuple[str, ...]) -> None:
    """A list of images, and a file of XML each."""
    names = [f'{number:06d}' for number in range(IMAGES)]
    file.write_text(''.join(f'{name}\n' for name in names))
    prefix = part.get('data_prefix') or {}
    folder = root / (prefix.get('sub_data_root') or prefix.get('img') or '') / 'Annotations'
    folder.mkdir(parents=True, exist_ok=True)
    sides = '<xmin>5</xmin><ymin>5</ymin><xmax>60</xmax><ymax>60</ymax>'
    boxes = ''.join(f'<object><name>{name}</name><bndbox>{sides}</bndbox></object>' for name in classes)
    text = f'<folder>f</folder><size><width>{WIDTH}</width><height>{HEIGHT}</height></size>{boxes}'
    for name in names:
        (folder / f'{name}.xml').write_text(f'<annotation>{text}</annotation>')
        ElementTree.parse(folder / f'{name}.xml')


def make_open_images(part: dict, root: Path, file: Path, challenge: bool) -> None:
    """Open Images' tables of boxes, classes and their hierarchy, and the sizes of the images."""
    names = [f'{number}.jpg' for number in range(IMAGES)]
    label_file, hierarchy = root / part['label_file'], root / part['hierarchy_file']
    if challenge:
        label_file.write_text(''.join(f'Class {n},/m/{n},{n}\n' for n in range(1, 501)))
        np.save(hierarchy.open('wb'), np.eye(500))
        boxes = ''.join(f'{name}\n{n}\n1\n1 0.1 0.1 0.9 0.9 0\n' for n, name in enumerate(names))
    else:
        label_file.write_text(''.join(f'/m/{n},Class {n}\n' for n in range(1, 602)))
        hierarchy.write_text(json.dumps(dict(LabelName='/m/0bl9f', Subcategory=[])))
        boxes = 'head\n' + ''.join(f'{n},x,/m/1,1,0.1,0.9,0.1,0.9,0,0,0,0,0\n' for n in range(IMAGES))
    file.write_text(boxes)
    metas = [dict(filename=f'x/{name}', ori_shape=(HEIGHT, WIDTH, 3)) for name in names]
    make_pickle(root / part['meta_file'], metas)
    if part.get('image_level_ann_file'):
        (root / part['image_level_ann_file']).write_text('ImageID,Source,LabelName,Confidence\n')


def make_odvg(part: dict, root: Path, file: Path) -> None:
    """Lines of boxes with labels, or of phrases."""
    if part.get('label_map_file'):
        (root / part['label_map_file']).write_text(json.dumps({'0': 'one', '1': 'two'}))
        box = dict(detection=dict(instances=[dict(bbox=[4, 4, 24, 20], label=1, category='two')]))
    else:
        region = dict(bbox=[4, 4, 24, 20], phrase='one', tokens_positive=[[0, 3]])
        box = dict(grounding=dict(caption='one and two', regions=[region]))
    lines = [dict(filename=f'{n}.jpg', width=WIDTH, height=HEIGHT, **box) for n in range(IMAGES)]
    file.write_text(''.join(json.dumps(line) + '\n' for line in lines))


def make_pickle(path: Path, content: object) -> None:
    """A pickle, and its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pickle.dumps(content))


def make_image(path: Path) -> None:
    """A small picture, where there is none."""
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new('RGB', (WIDTH, HEIGHT)).save(path)


def with_images(paths: list[Path], *args: Any, **kwargs: Any) -> Any:
    """The check of images, over images that are drawn for it."""
    for path in paths:
        make_image(path)
    return REQUIRE_IMAGES(paths, *args, **kwargs)


REQUIRE_IMAGES = images_check.require_images


def check_stock_config(path: Path) -> tuple[str, str]:
    """Whether a config's data is refused, and what is said: ``('good', …)``, ``'needs a package'``, ``'refused'``…

    The current folder takes the data.
    """
    try:
        config = Config.fromfile(path)
    except FileNotFoundError as error:
        return 'no config', str(error).split('/')[-1]
    make_data(config)
    said = io.StringIO()
    try:
        with (
            mock.patch.object(images_check, 'require_images', with_images),
            mock.patch.object(masks_check, 'require_images', with_images),
            contextlib.redirect_stderr(said),
        ):
            check_data(config, SPLITS)
    except InputError as error:
        if BROKEN.get(str(path.relative_to(CONFIGS)), '?') in str(error):
            return 'broken in MMDetection', str(error)
        return ('needs a package' if re.search('ImportError|not installed', str(error)) else 'refused'), str(error)
    unchecked = {line for line in said.getvalue().splitlines() if line.startswith('not checked')}
    warned = {line for line in said.getvalue().splitlines() if line.startswith('warning')}
    return ('warned' if warned else 'partly checked' if unchecked else 'good'), '; '.join(sorted(warned | unchecked))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--match', default='', help='only configs whose path this regular expression finds')
    args = parser.parse_args()
    paths = [path for path in stock_configs() if re.search(args.match, str(path.relative_to(CONFIGS)))]
    ends: dict[str, list[str]] = {}
    reasons: Counter[str] = Counter()
    begin = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        os.environ['EAN_CACHE'] = str(Path(folder, 'cache'))
        for path in track(paths, 'Checking', disable=not sys.stderr.isatty()):
            start = time.perf_counter()
            try:
                end, text = check_stock_config(path)
            except Exception as error:
                end, text = 'failed', f'{type(error).__name__}: {error}'
            ends.setdefault(end, []).append(str(path.relative_to(CONFIGS)))
            if end in ('refused', 'failed', 'warned', 'needs a package'):
                print(f'{end}: {path.relative_to(CONFIGS)}: {text} ({time.perf_counter() - start:.1f} s)', flush=True)
            else:
                reasons[text] += 1
        os.chdir('/')
    for text, count in reasons.most_common():
        print(f'{count}: {text or "good"}')
    print(', '.join(f'{end}: {len(names)}' for end, names in ends.items()), f'in {time.perf_counter() - begin:.0f} s')
    sys.exit(bool(ends.get('refused') or ends.get('failed')))


if __name__ == '__main__':
    main()
