"""Which of MMDetection's configs train and predict without a compiled mmcv: the table in docs/mmcv_ops.md.

    python -W ignore tests/supported/mmdet_configs.py > table.md

One config of every folder, the smallest by its name, on the CPU, each in a process of its own: the model without its
pretrained weights and with at most 100 proposals or queries, two random images of 128 × 128, one training step (SGD)
and one prediction. Some need more: `pip install lap scikit-image transformers==4.40.2`; language models are random.
What is done is kept in the folder of the logs, so that a second call goes on.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import re
import resource
import signal
import sys
import tempfile
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import mmdet
import mmpretrain  # noqa: F401, backbones
import numpy as np
import torch
from mmdet.apis import init_detector  # noqa: F401, imports what a model may need, once
from mmdet.structures import ReIDDataSample
from mmdet.testing import demo_mm_inputs, demo_mm_proposals, demo_track_inputs
from mmengine.config import Config
from mmengine.logging import MessageHub
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import MODELS, DefaultScope, init_default_scope

import ean_mmdet

CONFIGS = Path(mmdet.__file__).parent / '.mim' / 'configs'
SIZE = 128
LARGE = re.compile(r'x101|r101|r152|x152|swin-[bl]|-l[_-]|_[lxm]_|hourglass104|regnetx-(?!400)|convnext-s|pvt.*-[lm]_')
# Trackers that are put together from a detector and a ReID network, which are trained apart.
ASSEMBLED = ('DeepSORT', 'StrongSORT', 'SORT', 'OCSORT')


def choose(folder: Path) -> Path:
    """The config of a folder whose name promises the smallest model."""
    paths = [path for path in folder.rglob('*.py') if '__pycache__' not in path.parts and '_tta' not in path.name]
    paths.sort(key=lambda path: (bool(LARGE.search(path.name)), path.name.startswith('d2_'), len(path.name), path.name))
    return next((path for path in paths if _has_model(path)), paths[0])


def _has_model(path: Path) -> bool:
    try:
        return 'model' in Config.fromfile(path)
    except FileNotFoundError:  # MMDetection 3.3 has four whose bases aren't there
        return False


def shrink(node: object, language_model: str) -> None:
    """Remove the names of pretrained weights, which would be downloaded, and limit the proposals and samples."""
    if isinstance(node, dict):
        for key, value in node.items():
            pretrained = key in ('init_cfg', 'pretrained', 'teacher_ckpt', 'load_from')
            if pretrained and (isinstance(value, str) or (isinstance(value, dict) and 'checkpoint' in value)):
                node[key] = None
            elif key in ('nms_pre', 'max_per_img', 'num_queries') and isinstance(value, int):
                node[key] = min(value, 100)
            elif key == 'num' and str(node.get('type', '')).endswith('Sampler'):
                node[key] = min(value, 64)
            elif value == 'bert-base-uncased':
                node[key] = language_model
            elif value == 'MMSyncBN':  # which wants a process group
                node[key] = 'BN'
            shrink(value, language_model)
    elif isinstance(node, (list, tuple)):
        for value in node:
            shrink(value, language_model)


def random_bert(folder: Path) -> str:
    """A BERT of one layer with random weights, in place of the one on the network."""
    from transformers import BertConfig, BertModel, BertTokenizer

    words = ['[PAD]', '[UNK]', '[CLS]', '[SEP]', '[MASK]', '.', '?', 'a', 'cat', 'dog']
    (folder / 'vocab.txt').write_text('\n'.join(words))
    BertTokenizer(str(folder / 'vocab.txt')).save_pretrained(folder)
    BertModel(BertConfig(vocab_size=len(words), num_hidden_layers=1)).save_pretrained(folder)
    return str(folder)


def count_calls() -> Counter:
    """Count which operators are called from now on."""
    calls: Counter = Counter()
    extension = sys.modules['mmcv._ext']

    def counted(name: str, function: Callable) -> Callable:
        def call(*args: object, **kwargs: object) -> object:
            calls[name] += 1
            return function(*args, **kwargs)

        return call

    for name in extension.__all__:
        setattr(extension, name, counted(name, getattr(extension, name)))
    return calls


def class_count(node: object) -> int:
    """The smallest number of classes that a part of the model knows."""
    found = [10]
    if isinstance(node, dict):
        for key in ('num_classes', 'num_things_classes'):
            if isinstance(node.get(key), int) and node[key] > 0:
                found.append(node[key])
        found += [class_count(value) for value in node.values()]
    elif isinstance(node, (list, tuple)):
        found += [class_count(value) for value in node]
    return min(found)


def detection_inputs(model: dict, images: int = 2) -> dict:
    texts = ['a cat . a dog .'] * images if 'language_model' in model else None
    classes = 2 if texts else class_count(model)
    side = 300 if 'SSDVGG' in str(model) else SIZE  # the VGG of SSD takes that size alone
    stride = 8 if 'semantic_head' in model.get('roi_head', {}) else 1  # HTC's labels are small
    data = demo_mm_inputs(
        images,
        (3, side, side),
        num_items=[3, 4][:images],
        num_classes=max(classes, 2),
        with_mask=model.type != 'RTMDet',  # whose assigner would take their centres
        with_semantic=True,
        sem_seg_output_strides=stride,
        use_box_type=True,
        texts=texts,
        custom_entities=True,
    )
    for sample in data['data_samples']:
        sample.ignored_instances = sample.ignored_instances[:0]
        if classes == 1:
            sample.gt_instances.labels.zero_()
        # a segmentation of things and stuff holds the instances; left at 255, which is ignored
        sample.gt_sem_seg.sem_seg = sample.gt_sem_seg.sem_seg.long() % classes
    if model.type == 'FastRCNN':
        for sample, proposals in zip(data['data_samples'], demo_mm_proposals([(3, side, side)] * images, 20)):
            sample.proposals = proposals
    return data


def inputs(model: dict) -> tuple[object, object]:
    """What the model is trained with and what it predicts from."""
    if model.type == 'BaseReID':
        samples = [ReIDDataSample().set_gt_label([0, 0, 1, 1])]
        data = dict(inputs=[torch.randint(0, 255, (4, 3, 256, 128), dtype=torch.uint8)], data_samples=samples)
        return data, data
    if 'tracker' in model or model.type.startswith('Mask2FormerV'):
        options = dict(image_shapes=(3, SIZE, SIZE), num_classes=1, with_mask=True)
        if model.type == 'ByteTrack':
            return detection_inputs(model), demo_track_inputs(1, 1, **options)
        return demo_track_inputs(1, 2, key_frames_inds=[0], **options), demo_track_inputs(1, 2, **options)
    data = detection_inputs(model)
    if 'semi_train_cfg' in model:
        branches = ('sup', 'unsup_teacher', 'unsup_student')
        parts = {branch: detection_inputs(model) for branch in branches}
        for part in parts.values():
            for sample in part['data_samples']:
                sample.set_metainfo(dict(homography_matrix=np.eye(3, dtype=np.float32)))
        training = {key: {branch: part[key] for branch, part in parts.items()} for key in ('inputs', 'data_samples')}
        return training, detection_inputs(model, 1)
    return data, detection_inputs(model, 1)


def step(path: Path) -> dict:
    """Train and predict once."""
    torch.manual_seed(0)
    np.random.seed(0)
    calls = count_calls()
    config = Config.fromfile(path)
    if 'model' not in config:
        return dict(train='no model: bases of other configs', predict='–')
    init_default_scope('mmdet')
    for count in ('iter', 'epoch'):  # a runner's, which YOLOX and TOOD ask
        MessageHub.get_instance('check').update_info(count, 0)
    with tempfile.TemporaryDirectory() as folder:
        language = random_bert(Path(folder)) if 'language_model' in config.model else ''
        shrink(config.model, language)
        return run_model(config.model, calls)


def run_model(config: dict, calls: Counter) -> dict:
    training, testing = inputs(config)
    with DefaultScope.overwrite_default_scope('mmdet'):
        model = revert_sync_batchnorm(MODELS.build(config))
    result: dict = dict(parameters=sum(p.numel() for p in model.parameters()))
    for name, run in (('train', train), ('predict', predict)):
        try:
            result[name] = run(model, copy.deepcopy(training if name == 'train' else testing))
        except Exception as error:
            result[name] = f'{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ""}'
            traceback.print_exc()
    return dict(result, operators=sorted(calls))


def train(model: torch.nn.Module, data: object) -> str:
    if type(model).__name__ in ASSEMBLED:
        return 'its detector and ReID network are trained apart'
    model.train()
    optimizer = torch.optim.SGD((p for p in model.parameters() if p.requires_grad), lr=1e-5)
    batch = model.data_preprocessor(data, True)
    loss, _ = model.parse_losses(model(**batch, mode='loss'))
    loss.backward()
    optimizer.step()
    return 'yes' if torch.isfinite(loss) else f'loss is {loss.item()}'


def predict(model: torch.nn.Module, data: object) -> str:
    model.eval()
    with torch.no_grad():
        results = model(**model.data_preprocessor(data, False), mode='predict')
    return 'yes' if len(results) else 'no results'


def in_process(path: Path, limit: int, log: Path) -> dict:
    """``step`` in a child, whose end or death is the result."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(read)
        with log.open('w') as stream:
            os.dup2(stream.fileno(), 1)
            os.dup2(stream.fileno(), 2)
        resource.setrlimit(resource.RLIMIT_CPU, (limit, limit))
        try:
            result = step(path)
        except BaseException as error:
            traceback.print_exc()
            message = f'{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ""}'
            result = dict(train=message, predict=message)
        os.write(write, json.dumps(result).encode())
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as stream:
        text = stream.read()
    _, status = os.waitpid(child, 0)
    message = f'ended by signal {status & 127}' if status & 127 != signal.SIGKILL else f'more than {limit} s of a CPU'
    result = json.loads(text) if text else dict(train=message, predict=message)
    return dict(result, config=str(path.relative_to(CONFIGS)))


def table(results: dict[str, dict]) -> str:
    rows = [
        '| folder | config | trains | predicts | operators of mmcv that it called | parameters, M |',
        '| --- | --- | --- | --- | --- | ---: |',
    ]
    for folder, result in sorted(results.items()):
        operators = ', '.join(result.get('operators', []))
        rows.append(
            f'| {folder} | {Path(result["config"]).stem} | {result["train"]} | {result["predict"]} | {operators} '
            f'| {result.get("parameters", 0) / 1e6:.1f} |'
        )
    trains, predicts = (sum(result[key] == 'yes' for result in results.values()) for key in ('train', 'predict'))
    return '\n'.join([*rows, '', f'{len(results)} folders: {trains} train, {predicts} predict.'])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split('\n\n')[0])
    parser.add_argument('configs', nargs='*', help='configs to take in place of the smallest ones, as FOLDER/NAME.py')
    parser.add_argument('--limit', type=int, default=300, help='seconds of a CPU that a config may take')
    parser.add_argument('--logs', type=Path, default=Path('work_dirs/mmdet_configs'), help='logs and what is done')
    args = parser.parse_args()
    extension = sys.modules['mmcv._ext'].__file__
    if not Path(extension).is_relative_to(Path(ean_mmdet.__file__).parent):
        sys.exit(f'error: a compiled mmcv is here, {extension}; this is about mmcv-lite')
    logs = args.logs.resolve()
    logs.mkdir(parents=True, exist_ok=True)
    os.chdir(CONFIGS.parent)  # some configs name others by their path
    kept = logs / 'results.json'
    results = json.loads(kept.read_text()) if kept.is_file() else {}
    chosen = {config.split('/')[0]: CONFIGS / config for config in args.configs}
    folders = sorted(path.name for path in CONFIGS.iterdir() if path.is_dir() and path.name != '_base_')
    for number, folder in enumerate(folders, 1):
        if folder in results and folder not in chosen:
            continue
        path = chosen.get(folder) or choose(CONFIGS / folder)
        results[folder] = in_process(path, args.limit, logs / f'{folder}.log')
        kept.write_text(json.dumps(results, indent=1, sort_keys=True))
        print(f'[{number}/{len(folders)}] {folder}: {results[folder]["train"]}', file=sys.stderr, flush=True)
    print(table(results))


if __name__ == '__main__':
    main()
