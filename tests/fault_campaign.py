"""Tries the tools with hundreds of random faults: python -m tests.fault_campaign --seed 0 --faults 500

A fault passes if the tool ends in success and what it says is right, or in one line that starts with ``error:`` and a
non-zero exit code, with every checkpoint that was there still whole. It fails on a traceback, on any other end, on a
success whose result isn't that of the intact input, and on anything lost. Its table is in docs/reliability.md.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import os
import random
import re
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess, TimeoutExpired

import torch
from mmengine.config import Config
from PIL import Image
from rich.progress import track

from ean_mmdet.checkpoint import load_local
from ean_mmdet.datasets import CLASSES, make_sample_dataset
from tests.fork_server import ROOT, ForkServer
from tests.test_tools.tiny import write_config

TRAIN, TEST = ROOT / 'tools/train.py', ROOT / 'tools/test.py'
WRONG = [
    None, True, -1, 0, 7, 10**12, 0.5, float('nan'), 'x', '', 'NoSuchName', [], [1], [-1, 'x'], {}, {'x': 1}, (3, 3),
]  # fmt: skip


class Failure(Exception):
    """A fault that did not pass."""


class Campaign:
    """The intact data, config and run, and the faults to try on copies of them."""

    def __init__(self, folder: Path, server: ForkServer, rng: random.Random, verbose: bool) -> None:
        self.folder, self.server, self.rng, self.verbose = folder, server, rng, verbose
        self.data = make_sample_dataset(folder / 'data', train=8, val=4)
        self.config = write_config(folder, self.data, iterations=4)
        self.run = folder / 'run'
        options = ('default_hooks.checkpoint.interval=1', 'default_hooks.checkpoint.max_keep_ckpts=2')
        self.train_arguments = (self.config, '--cfg-options', *options)
        result = server.run(TRAIN, *self.train_arguments, '--work-dir', self.run)
        assert result.returncode == 0, result.stderr[-3000:]
        self.last = self.run / 'iter_4.pth'
        self.weights = load_local(str(self.last))['state_dict']
        self.metrics = self.test(self.last)[1]
        self.numbered = 0

    def fresh(self) -> Path:
        """A folder for one fault, the one before it removed."""
        shutil.rmtree(self.folder / f'fault{self.numbered}', ignore_errors=True)
        self.numbered += 1
        path = self.folder / f'fault{self.numbered}'
        path.mkdir()
        return path

    def test(self, checkpoint: Path, *arguments: object) -> tuple[CompletedProcess, dict | None]:
        """Evaluate; the metrics where that went well."""
        work_dir = self.folder / 'tested'
        shutil.rmtree(work_dir, ignore_errors=True)
        result = self.server.run(TEST, self.config, checkpoint, '--work-dir', work_dir, *arguments, timeout=120)
        files = list(work_dir.glob('2*/2*.json'))
        if not files or result.returncode:
            return result, None
        metrics = json.loads(files[0].read_text())
        return result, {key: value for key, value in metrics.items() if key.startswith('coco/')}

    def check_end(self, result: CompletedProcess) -> str:
        """How a tool ended: 'ran' or 'refused'."""
        text = result.stderr
        if 'Traceback (most recent call last)' in text + result.stdout:
            raise Failure(f'traceback: {text[-600:]!r}')
        if result.returncode == 0:
            return 'ran'
        lines = [line for line in text.splitlines() if line.startswith('error: ')]
        # argparse ends so, too
        lines += [line for line in text.splitlines() if re.match(r'\w+\.py: error: ', line)]
        if len(lines) != 1 or result.returncode < 0:
            raise Failure(f'exit code {result.returncode} with {len(lines)} error lines: {text[-300:]!r}')
        if 'the traceback is in' not in lines[0]:
            return 'refused'
        if self.verbose:
            print(lines[0][:300], flush=True)
        return 'a line with its traceback in a file'

    def check_checkpoints(self, folder: Path) -> None:
        """Every checkpoint that goes by its name is whole."""
        for path in folder.glob('*.pth'):
            load_local(str(path))

    # ------------------------------------------------------------------------------------------------------ the faults

    def damage(self, content: bytes) -> tuple[str, bytes]:
        """Some bytes changed, zeroed or cut off."""
        content, kind = bytearray(content), self.rng.choice(['flip', 'cut', 'zero', 'insert'])
        at = self.rng.randrange(len(content))
        if kind == 'flip':
            for _ in range(self.rng.choice([1, 1, 3, 30])):
                content[self.rng.randrange(len(content))] ^= 1 << self.rng.randrange(8)
        elif kind == 'cut':
            del content[at:]
        elif kind == 'zero':
            length = min(self.rng.choice([1, 64, 4096]), len(content) - at)
            content[at : at + length] = bytes(length)
        else:
            content[at:at] = self.rng.randbytes(self.rng.choice([1, 16, 512]))
        return kind, bytes(content)

    def checkpoint_bytes(self) -> str:
        path = self.fresh() / 'damaged.pth'
        kind, content = self.damage(self.last.read_bytes())
        path.write_bytes(content)
        result, metrics = self.test(path)
        end = self.check_end(result)
        if end == 'ran' and metrics != self.metrics:
            raise Failure(f'{kind}: evaluated with other metrics without a word')
        return end

    def checkpoint_content(self) -> str:
        checkpoint = torch.load(self.last, weights_only=True)
        resume = self.rng.random() < 0.5
        part = self.rng.choice(['all', 'state_dict', 'meta', 'optimizer', 'message_hub', 'param_schedulers', 'weight'])
        wrong = self.rng.choice([None, [], {}, 'x', 3, [1, 2], {'x': 1}, {1: 2}])
        keys = list(checkpoint['state_dict'])
        if part == 'all':
            checkpoint = wrong
        elif part == 'weight':
            for key in self.rng.sample(keys, self.rng.choice([1, len(keys) // 2, len(keys)])):
                value = checkpoint['state_dict'].pop(key)
                change = self.rng.choice(['drop', 'rename', 'reshape', 'string'])
                if change != 'drop':
                    new = {'rename': value, 'reshape': torch.cat([value.flatten(), value.flatten()]), 'string': 'x'}
                    checkpoint['state_dict'][key + '_' * (change == 'rename')] = new[change]
        elif self.rng.random() < 0.3:
            del checkpoint[part]
        else:
            checkpoint[part] = wrong
        folder = self.fresh()
        path = folder / 'other.pth'
        torch.save(checkpoint, path)
        if not resume:
            result, metrics = self.test(path)
            end = self.check_end(result)
            if end == 'ran' and part in ('all', 'state_dict'):
                raise Failure(f'{part} = {wrong!r} was evaluated')
            # a few weights less are reported in lines of their own
            if end == 'ran' and metrics != self.metrics and 'weight' not in result.stdout + result.stderr:
                raise Failure(f'{part}: evaluated with other metrics without a word')
            return end
        result = self.server.run(
            TRAIN, *self.train_arguments, 'train_cfg.max_iters=5', '--work-dir', folder / 'run', '--resume', path
        )
        return self.check_end(result)

    def train(self, config: Path, folder: Path, *arguments: object, **options: object) -> CompletedProcess:
        return self.server.run(TRAIN, config, '--work-dir', folder / 'run', *arguments, timeout=180, **options)

    def copy_data(self, folder: Path) -> Path:
        """A config on a copy of the data that may be spoiled."""
        shutil.copytree(self.data, folder / 'data')
        return write_config(folder, folder / 'data', iterations=2)

    def annotation_bytes(self) -> str:
        folder = self.fresh()
        config = self.copy_data(folder)
        path = folder / 'data/annotations' / f'instances_{self.rng.choice(["train", "val"])}.json'
        _, content = self.damage(path.read_bytes())
        path.write_bytes(content)
        return self.check_end(self.train(config, folder))

    def annotation_values(self) -> str:
        folder = self.fresh()
        config = self.copy_data(folder)
        path = folder / 'data/annotations' / f'instances_{self.rng.choice(["train", "val"])}.json'
        content = json.loads(path.read_text())
        part = self.rng.choice(['images', 'annotations', 'annotations', 'categories', None])
        if part is None:
            key = self.rng.choice(list(content))
            holder = content
        else:
            holder = self.rng.choice(content[part])
            key = self.rng.choice(list(holder))
        if self.rng.random() < 0.25:
            del holder[key]
        else:
            holder[key] = self.rng.choice([w for w in WRONG if not isinstance(w, tuple)])
        path.write_text(json.dumps(content))
        end = self.check_end(self.train(config, folder))
        if self.verbose:
            print(f'{path.stem} {part}: {key} = {holder.get(key, "(deleted)")!r:.60}: {end}', flush=True)
        return end

    def plausible(self) -> str:
        """Annotations that are well-formed and wrong: told in a line, or without an effect on weights and metrics."""
        folder = self.fresh()
        config = self.copy_data(folder)
        split, share = self.rng.choice(['train', 'val']), self.rng.choice([0.1, 0.5, 1])
        path = folder / 'data/annotations' / f'instances_{split}.json'
        content = json.loads(path.read_text())
        kind = self.rng.choice([*PLAUSIBLE, 'orientation', 'other file', 'classes in another order'])
        if kind in PLAUSIBLE:
            chosen = self.rng.sample(content['annotations'], max(1, round(share * len(content['annotations']))))
            PLAUSIBLE[kind](self.rng, content, chosen)
            path.write_text(json.dumps(content))
        elif kind == 'orientation':
            image = folder / 'data/JPEGImages' / self.rng.choice(content['images'])['file_name']
            exif = Image.Exif()
            exif[0x0112] = self.rng.randint(2, 8)
            Image.open(image).save(image, exif=exif)
        elif kind == 'other file':
            other = folder / 'data/annotations/instances_train.json'
            config.write_text(config.read_text() + f'val_evaluator.update(ann_file={str(other)!r})\n')
        else:
            names = list(CLASSES)
            self.rng.shuffle(names)
            text = f"{split}_dataloader['dataset']['metainfo'] = dict(classes={tuple(names)!r})\n"
            config.write_text(config.read_text() + text)
        result = self.train(config, folder)
        end = self.check_end(result)
        if end != 'ran':
            return end
        if re.search('^(warning|note): ', result.stderr, re.MULTILINE):
            return 'ran, and was told'
        if not hasattr(self, 'intact'):
            self.intact = self.ended(self.folder / 'intact', self.train(self.intact_config(), self.folder / 'intact'))
        if self.ended(folder, result) != self.intact:
            raise Failure(f'{kind} in {share:.0%} of {split}: trained or evaluated otherwise without a word')
        return 'ran'

    def intact_config(self) -> Path:
        (self.folder / 'intact').mkdir()
        return write_config(self.folder / 'intact', self.data, iterations=2)

    def ended(self, folder: Path, result: CompletedProcess) -> tuple:
        """A hash of the weights, and the metrics, that a short run ended with."""
        weights = load_local(str(folder / 'run/iter_2.pth'))['state_dict']
        digest = hashlib.sha256()
        for key in sorted(weights):
            digest.update(weights[key].numpy().tobytes())
        return digest.hexdigest(), re.findall(r'coco/bbox_mAP: (\S+)', result.stdout + result.stderr)

    def image(self) -> str:
        folder = self.fresh()
        config = self.copy_data(folder)
        path = self.rng.choice(sorted((folder / 'data/JPEGImages').iterdir()))
        kind = self.rng.choice(['bytes', 'bytes', 'bytes', 'empty', 'text', 'folder', 'dangling', 'loop', 'missing'])
        content = path.read_bytes()
        path.unlink()
        if kind == 'bytes':
            path.write_bytes(self.damage(content)[1])
        elif kind in ('empty', 'text'):
            path.write_text('' if kind == 'empty' else 'no image\n' * 40)
        elif kind == 'folder':
            path.mkdir()
        elif kind == 'dangling':
            path.symlink_to('nowhere.jpg')
        elif kind == 'loop':
            path.symlink_to(path.name)
        end = self.check_end(self.train(config, folder))
        if end != 'refused' and kind != 'bytes':
            raise Failure(f'{kind}: trained')
        return end

    def setting(self) -> str:
        """One value of the whole config, as its bases make it, replaced by another."""
        folder = self.fresh()
        config = Config.fromfile(self.config)
        config.train_cfg.max_iters = config.train_cfg.val_interval = 2
        leaves = list(_leaves(config._cfg_dict.to_dict()))
        holder_keys, old = self.rng.choice(leaves)
        wrong = self.rng.choice([value for value in WRONG if value != old])
        content = config._cfg_dict.to_dict()
        holder = content
        for key in holder_keys[:-1]:
            holder = holder[key]
        if self.rng.random() < 0.15 and isinstance(holder, dict):
            del holder[holder_keys[-1]]
        else:
            holder[holder_keys[-1]] = wrong
        path = folder / 'changed.py'
        text = ''.join(f'{key} = {value!r}\n' for key, value in content.items())
        path.write_text(re.sub(r'(?<![\w\'])(nan|inf)(?![\w\'])', r"float('\1')", text))
        try:
            result = self.train(path, folder)
        except TimeoutExpired as error:
            # 10**12 iterations, images of a terabyte: what was asked for
            if wrong == 10**12:
                return 'ran until it was stopped'
            raise Failure(f'{".".join(map(str, holder_keys))} = {wrong!r}: hangs') from error
        if result.returncode == -9 and wrong == 10**12:
            return 'ran until it was stopped'
        try:
            return self.check_end(result)
        except Failure as error:
            raise Failure(f'{".".join(map(str, holder_keys))} = {wrong!r}: {error}') from error

    def kill(self) -> str:
        """Killed at a random moment of a run that writes a checkpoint a step, then resumed."""
        folder = self.fresh()
        try:
            result = self.server.run(
                TRAIN, *self.train_arguments, '--work-dir', folder / 'run', timeout=self.rng.uniform(0.3, 2.5)
            )
            self.check_end(result)
        except TimeoutExpired:
            pass
        return self.resumes(folder)

    def resumes(self, folder: Path) -> str:
        self.check_checkpoints(folder / 'run')
        last = folder / 'run/last_checkpoint'
        if last.is_file():
            load_local(last.read_text())
        result = self.server.run(TRAIN, *self.train_arguments, '--work-dir', folder / 'run', '--resume')
        self.check_end(result)
        if result.returncode:
            raise Failure(f'does not resume: {result.stderr[-300:]}')
        ended = load_local(str(folder / 'run/iter_4.pth'))['state_dict']
        for key, value in self.weights.items():
            if not torch.equal(value, ended[key]):
                raise Failure(f'resumed, it ends with another {key}')
        return 'ran'

    def full_disk(self) -> str:
        """No file can grow beyond some size."""
        folder = self.fresh()
        limit = int(math.exp(self.rng.uniform(math.log(2000), math.log(self.last.stat().st_size * 1.2))))
        result = self.server.run(TRAIN, *self.train_arguments, '--work-dir', folder / 'run', file_size=limit)
        end = self.check_end(result)
        self.resumes(folder)
        return end


def _leaves(value: object, keys: tuple = ()):
    """The settings of a config with the keys that lead to them; what is inside a list of plain values is not."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, part in items:
        plain = not isinstance(part, (dict, list)) or (isinstance(part, list) and not any(map(_is_group, part)))
        if plain:
            yield (*keys, key), part
        else:
            yield from _leaves(part, (*keys, key))


def _is_group(value: object) -> bool:
    return isinstance(value, (dict, list))


def _corners(rng: random.Random, content: dict, boxes: list[dict]) -> None:
    for box in content['annotations']:
        x, y, width, height = box['bbox']
        box['bbox'] = [x, y, x + width, y + height]


def _fractions(rng: random.Random, content: dict, boxes: list[dict]) -> None:
    sides = {image['id']: (image['width'], image['height']) * 2 for image in content['images']}
    for box in content['annotations']:
        box['bbox'] = [side / whole for side, whole in zip(box['bbox'], sides[box['image_id']])]


def _off(rng: random.Random, content: dict, boxes: list[dict]) -> None:
    for box in boxes:
        box['bbox'][rng.randrange(2)] += rng.choice([-2000, 2000])


def _super_category(rng: random.Random, content: dict, boxes: list[dict]) -> None:
    name = rng.choice(content['categories'])['name']
    content['categories'].insert(0, dict(id=0, name=name, supercategory='none'))


def _sides(rng: random.Random, content: dict, boxes: list[dict]) -> None:
    image = rng.choice(content['images'])
    image['width'], image['height'] = image['height'], image['width']


def _name(rng: random.Random, content: dict, boxes: list[dict]) -> None:
    category = rng.choice(content['categories'])
    category['name'] = rng.choice([category['name'].title(), f'{category["name"]} ', 'thing'])


def _shuffle(key: str) -> Callable[[random.Random, dict, list], None]:
    return lambda rng, content, boxes: rng.shuffle(content[key])


def _set(**values: object) -> Callable[[random.Random, dict, list], None]:
    return lambda rng, content, boxes: [box.update(values) for box in boxes]


# Well-formed annotations that are wrong, or only look so, by what is done to a file or to some of its boxes.
PLAUSIBLE: dict[str, Callable] = {
    'categories in another order': _shuffle('categories'),
    'a super-category': _super_category,
    'another name': _name,
    'no area': _set(area=0),
    'a negative area': _set(area=-5),
    'crowds': _set(iscrowd=1),
    'ignored': _set(ignore=1),
    'an unknown category': _set(category_id=77),
    'x1 y1 x2 y2': _corners,
    'fractions': _fractions,
    'off the image': _off,
    'sides swapped': _sides,
}

KINDS: dict[str, tuple[Callable[[Campaign], str], int]] = {
    'bytes of a checkpoint': (Campaign.checkpoint_bytes, 22),
    'content of a checkpoint': (Campaign.checkpoint_content, 14),
    'bytes of an annotation file': (Campaign.annotation_bytes, 10),
    'values of an annotation file': (Campaign.annotation_values, 16),
    'plausible annotations': (Campaign.plausible, 30),
    'an image': (Campaign.image, 10),
    'a setting of the config': (Campaign.setting, 20),
    'a kill, and resumed': (Campaign.kill, 4),
    'a full disk, and resumed': (Campaign.full_disk, 4),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--seed', type=int, default=0, help='seed of all that is random (default: 0)')
    parser.add_argument('--faults', type=int, default=500, help='how many faults to try (default: 500)')
    parser.add_argument('--numbers', type=int, nargs='+', help='try these of the faults alone')
    parser.add_argument('--only', choices=KINDS, help='one kind of fault')
    parser.add_argument('--verbose', action='store_true', help='print what was changed and how it ended')
    args = parser.parse_args()
    rng = random.Random(args.seed)
    kinds = rng.choices(list(KINDS), [weight for _, weight in KINDS.values()], k=args.faults)
    kinds = [args.only] * args.faults if args.only else kinds
    counts: dict[str, Counter] = {kind: Counter() for kind in KINDS}
    failures = []
    os.environ['EAN_CACHE'] = tempfile.mkdtemp()
    with tempfile.TemporaryDirectory() as folder, ForkServer() as server:
        campaign = Campaign(Path(folder), server, rng, args.verbose)
        chosen = [pair for pair in enumerate(kinds) if args.numbers is None or pair[0] in args.numbers]
        for number, kind in track(chosen, 'Faults', disable=not sys.stderr.isatty()):
            rng.seed(f'{args.seed} {number}')  # so that one fault can be tried alone
            try:
                counts[kind][KINDS[kind][0](campaign)] += 1
            except Exception as error:
                counts[kind]['FAILED'] += 1
                failures.append(f'{number}, {kind}: {type(error).__name__}: {error}')
                print(failures[-1], flush=True)
    ends = sorted({end for counter in counts.values() for end in counter})
    print('\n| fault | tried | ' + ' | '.join(ends) + ' |')
    print('| --- | ---: |' + ' ---: |' * len(ends))
    for kind, counter in counts.items():
        print(f'| {kind} | {sum(counter.values())} | ' + ' | '.join(str(counter[end]) for end in ends) + ' |')
    print(f'\n{len(chosen)} faults, seed {args.seed}: {len(failures)} failed')
    sys.exit(bool(failures))


if __name__ == '__main__':
    main()
