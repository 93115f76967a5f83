"""Writing a config as a person would: a few lines on a base config, with the reason where a number was chosen."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmdet.models.utils import make_divisible
from mmengine.config import Config

from ..errors import InputError
from ..evaluation.variants import PLACING, PLAIN, Spec
from ..files import write_text
from .choices import DETECTORS, Choices
from .found import Found
from .parts import CocoPart, Part
from .weights import Start

WIDTH = 116
GROUPS = {'ssdlite': 8, 'yolox': 8, 'faster_rcnn': 64, 'retinanet': 64}  # the paper's


@dataclass
class Job:
    """Material of a config.

    Attributes:
        detector: Of :data:`.DETECTORS`.
        attention: The module, ``Spec('none', …)`` for none.
        found: The data.
        parts: Its splits by their roles.
        datasets: What :func:`write_parts` made of them.
        start: What the detector starts from.
        configs: The folder of this project's configs.
        command: The command line, for the head of the file.
        out: The config's file.
        width: Factor on the channels of SSDLite. Defaults to 1.
    """

    detector: str
    attention: Spec
    found: Found
    parts: dict[str, Part]
    datasets: dict[str, dict]
    start: Start
    configs: Path
    command: str
    out: Path
    width: float = 1.0

    @property
    def base(self) -> str | list[str]:
        """The base configs."""
        if self.detector == 'retinanet':
            own = ('datasets/coco_detection.py', 'schedules/schedule_200k.py', 'default_runtime.py')
            return [DETECTORS['retinanet'].base, *(str(self.configs / '_base_' / name) for name in own)]
        data = 'voc' if self.datasets['train']['type'] == 'VOCDataset' else 'coco'
        base = DETECTORS[self.detector].base.format(data=data)
        return base if base.startswith('mmdet::') else str(self.configs / base)


def write_parts(parts: dict[str, Part], root: Path, out: Path, divided: bool) -> dict[str, dict]:
    """Write the files that the data lacks beside the config, and give each split's data set.

    Args:
        parts: Splits by their roles.
        root: The data's folder, which stays as it is.
        out: The config, beside which the folder ``NAME_data`` has the files.
        divided: Whether the split is ours, which is written as lists too.

    Returns:
        For each role what MMDetection's data set takes, with ``ann_file`` and ``data_prefix`` relative to the data or
        absolute.
    """
    folder = out.with_name(f'{out.stem}_data')
    datasets = {}
    written: dict[int, Path] = {}
    for role, part in parts.items():
        file = part.file if part.file is not None else written.get(id(part))
        if file is None:
            file = written[id(part)] = folder / f'{role}{part.suffix}'
            part.write(file)
        if divided and isinstance(part, CocoPart):
            write_text(folder / f'{role}.txt', ''.join(f'{name}\n' for name in part.names()))
        place = part.folder if isinstance(part, CocoPart) else part.root
        prefix = f'{place.relative_to(root)}/' if place.is_relative_to(root) else f'{place}/'
        prefix = '' if prefix == './' else prefix
        made: dict[str, Any] = dict(type=part.kind, data_root=f'{root}/', ann_file=_relative(file, root))
        if isinstance(part, CocoPart):
            made['data_prefix'] = dict(img=prefix)
        else:
            made['data_prefix'] = dict(sub_data_root=prefix)
            usual = dict(img_subdir='JPEGImages', ann_subdir='Annotations')
            made.update({key: getattr(part, key) for key, value in usual.items() if getattr(part, key) != value})
        datasets[role] = made
    return datasets


def _relative(file: Path, root: Path) -> str:
    return str(file.relative_to(root)) if file.is_relative_to(root) else str(file)


def render(job: Job, choices: Choices, base: Config) -> str:
    """The text of a config.

    Raises:
        InputError: The attention can't be put into a config in a line, or jinja2 is missing.
    """
    try:
        from jinja2 import Environment, FileSystemLoader
    except ImportError as error:
        raise InputError(f'configs are written by jinja2, which is not here: pip install jinja2 ({error})') from None
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), trim_blocks=True, lstrip_blocks=True,
        keep_trailing_newline=True,
        block_start_string='<%', block_end_string='%>', variable_start_string='<<', variable_end_string='>>',
        comment_start_string='<#', comment_end_string='#>',
    )  # fmt: skip
    environment.filters.update(quoted=repr, short=lambda value: f'{value:.3g}', comment=_comment)
    yolox = job.detector == 'yolox'
    train, classes = job.parts['train'], job.found.classes
    module = '' if job.attention.kind == PLAIN else f' with {job.attention.kind}'
    interval = max(1, choices.epochs // 5) if yolox else max(1, choices.iterations // 5)
    text = environment.get_template('config.py.j2').render(
        title=f'{DETECTORS[job.detector].title}{module} on {job.found.folder.name}',
        counts=f'{len(train.names())} images to train on, {len(job.parts["val"].names())} to validate on, '
        f'{len(classes)} class{"" if len(classes) == 1 else "es"}',
        command=job.command, base=_base(job.base), root=repr(f'{job.found.folder}/'), order=job.found.order,
        classes=_classes(classes), c=choices, side=choices.input_size[0], yolox=yolox,
        ssdlite=job.detector == 'ssdlite',
        square=job.detector in ('ssdlite', 'yolox'), voc=job.datasets['train']['type'] == 'VOCDataset',
        data={role: _data(dataset, job) for role, dataset in job.datasets.items()}, start=job.start,
        adam=job.detector == 'ssdlite' or job.start.kind == 'scratch', model=_model(job, choices),
        workers=2, interval=interval, last_epochs=max(1, min(15, choices.epochs // 10)),
        warm_up=max(1, min(5, choices.epochs // 20)) if yolox else max(1, min(500, choices.iterations // 15)),
        steps=[_resize(base, split) for split in ('train', 'val')],
        short_input=choices.reasons['input'].partition(': trained')[0] + '.',
        scaled='' if choices.factor == 1 else f'scaled by {choices.factor:.2f} ',
    )  # fmt: skip
    return text


def _comment(text: str, indent: int = 0) -> str:
    """A text as lines of a comment."""
    text = text[:1].upper() + text[1:]
    head = ' ' * indent + '# '
    lines = textwrap.wrap(text, WIDTH - indent, break_long_words=False, break_on_hyphens=False)
    return '\n'.join(head + line for line in lines)


def _resize(base: Config, split: str) -> int:
    """Find the step of a base's pipeline that resizes."""
    steps = base.get(f'{"train" if split == "train" else "test"}_pipeline') or []
    return next((number for number, step in enumerate(steps) if step['type'] == 'Resize'), 0)


def _base(base: str | list[str]) -> str:
    if isinstance(base, str):
        return repr(base)
    return '[\n' + ''.join(f'    {name!r},\n' for name in base) + ']'


def _classes(classes: Sequence[str]) -> str:
    inside = ', '.join(map(repr, classes)) + (',' if len(classes) == 1 else '')
    line = f'metainfo = dict(classes=({inside}))'
    if len(line) <= WIDTH:
        return line
    wrapped: list[str] = ['']
    for name in map(repr, classes):  # names hold blanks, at which a line must not end
        if wrapped[-1] and len(wrapped[-1]) + len(name) + 10 > WIDTH:
            wrapped.append('')
        wrapped[-1] += f'{" " if wrapped[-1] else ""}{name},'
    return 'metainfo = dict(\n    classes=(\n' + textwrap.indent('\n'.join(wrapped), ' ' * 8) + '\n    )\n)'


def _data(dataset: dict, job: Job) -> dict[str, str]:
    """A data set in the config's words; files beside the config move with it."""
    file = dataset['ann_file']
    beside = Path(file).is_absolute() and Path(file).is_relative_to(job.out.parent)
    beside = beside and not set(str(job.out.parent)) & set('\'"\\')  # mmengine puts it into the text as it is
    text = f"'{{{{ fileDirname }}}}/{Path(file).relative_to(job.out.parent)}'" if beside else repr(file)
    ((key, prefix),) = dataset['data_prefix'].items()
    subdirs = ', '.join(f'{key}={dataset[key]!r}' for key in ('img_subdir', 'ann_subdir') if key in dataset)
    return dict(
        type=dataset['type'], ann_file=text, data_prefix=f'dict({key}={prefix!r})', subdirs=subdirs,
        full=text if Path(file).is_absolute() else f'data_root + {text}',
    )  # fmt: skip


def _model(job: Job, choices: Choices) -> str:
    """The lines of the model: backbone with attention, number of classes, anchors."""
    number = len(job.found.classes)
    backbone = _backbone(job)
    lines: list[str] = []
    if job.detector == 'yolox':
        side = choices.input_size[0]
        low, high = (round(side * factor / 32) * 32 for factor in (0.75, 1.25))
        lines += [
            'data_preprocessor=dict(',
            "    batch_augments=[dict(type='BatchSyncRandomResize', "
            f'random_size_range=({low}, {high}), size_divisor=32, interval=10)]',
            '),',
        ]
    levels = _levels(job, choices)
    if choices.fine:
        backbone = [*backbone, 'expansion_indices=(3, 5)']
    if backbone:
        line = f'backbone=dict({", ".join(backbone)}),'
        broken = ['backbone=dict(', *_indent([f'{setting},' for setting in backbone]), '),']
        lines += [line] if len(line) < WIDTH - 8 else broken
    if levels:
        neck = [f'in_channels=level_channels[:{3 if choices.fine else 2}],', 'out_channels=level_channels,']
        neck += ['level_strides=(2, 2, 2),', 'level_paddings=(1, 1, 1),'] if choices.fine else []
        lines += ['neck=dict(', *_indent(neck), '),']
    anchors = _anchors(choices)
    if job.detector == 'faster_rcnn':
        if anchors:
            lines += ['rpn_head=dict(', *_indent(anchors), '),']
        lines.append(f'roi_head=dict(bbox_head=dict(num_classes={number})),')
    else:
        head = ['in_channels=level_channels,'] if levels else []
        lines += ['bbox_head=dict(', *_indent([*head, f'num_classes={number},', *anchors]), '),']
    if choices.most:
        inner = f'max_per_img={choices.most}'
        lines += _comment(f'{choices.reasons["detections"]}.', 4).strip().split('\n    ')
        lines.append(f'test_cfg=dict({f"rcnn=dict({inner})" if job.detector == "faster_rcnn" else inner}),')
    return '\n'.join([*levels, 'model = dict(', *_indent(lines), ')'])


def _levels(job: Job, choices: Choices) -> list[str]:
    """The channels of SSDLite's levels, where they aren't the base's."""
    if not choices.fine and job.width == 1:
        return []
    channels = (288, 576, 1280, 512, 256, 256) if choices.fine else (576, 1280, 512, 256, 256, 128)
    blocks = 'the first blocks of stride 16 and 32' if choices.fine else 'the first block of stride 32'
    return [
        f'# Levels of stride {8 if choices.fine else 16} and more: expansions of {blocks}, the last block, the neck.',
        f'level_channels = {tuple(make_divisible(value * job.width, 8) for value in channels)}',
    ]


def _indent(lines: Sequence[str]) -> list[str]:
    return [f'    {line}' for line in lines]


def _anchors(choices: Choices) -> list[str]:
    settings = dict(choices.anchors.settings) if choices.anchors else {}
    if not settings:
        return []
    if choices.detector == 'ssdlite':
        settings = dict(strides=choices.strides, **settings)
    lines = [f'    {key}={value},' for key, value in settings.items()]
    return [
        *_comment(f'By k-means of the boxes: {choices.reasons["anchors"]}.', 8).strip().split('\n        '),
        'anchor_generator=dict(',
        *lines,
        '),',
    ]


def _backbone(job: Job) -> list[str]:
    """The settings of the backbone: attention, and what a start from scratch needs."""
    spec, detector = job.attention, job.detector
    settings: list[str] = []
    if spec.kind != PLAIN:
        placing = [key for key in PLACING if key in spec.settings]
        inside = dict(spec.settings)
        if spec.kind == 'EAN':
            inside.setdefault('groups', GROUPS[detector])
        arguments = ', '.join(f'{key}={value!r}' for key, value in inside.items())
        module = f'dict(type={spec.kind!r}{", " + arguments if arguments else ""})'
        if placing:
            raise InputError(
                f"--attention {spec.kind}({placing[0]}=…) says where the module goes, which is the config's to say: "
                f'write it without, and set {placing[0]} of the backbone there'
            )
        if detector == 'yolox':
            return [
                '_delete_=True',
                "type='WithAttention'",
                'backbone={{_base_.model.backbone}}',
                f'attention={module}',
            ]
        if spec.kind == 'EAN':
            settings += [f'type={"EANMobileNeXt" if detector == "ssdlite" else "EANResNet"!r}', arguments]
        elif detector == 'ssdlite':
            settings.append(f'attention={module}')
        else:
            settings.append(f"plugins=[dict(cfg={module}, position='after_conv3')]")
    if job.width != 1:
        settings += [f'widen_factor={job.width:g}', f'last_channels={make_divisible(1280 * job.width, 8)}']
    if detector in ('faster_rcnn', 'retinanet'):
        if job.start.kind == 'scratch':
            settings += ['init_cfg=None', 'frozen_stages=-1', 'norm_eval=False']
        else:
            settings += ['init_cfg=None'] if job.start.kind == 'checkpoint' else []
            settings += ['frozen_stages=0'] if spec.kind != PLAIN else []  # in a frozen stage it would never learn
    return settings
