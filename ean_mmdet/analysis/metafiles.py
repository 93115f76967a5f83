"""The metafiles of the configs, which mim and MMEngine read, from the configs and the paper's tables.

What a metafile says of itself is kept: its comment, its ``Collections``, the names of its models, and results that were
measured here.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml
from mmengine.config import Config
from torch import nn

from ..engine import build_model
from .complexity import attention_modules
from .paper_tables import TABLES

# By the last folder of a data set's root: its name, and the one that results go by.
DATASETS = {
    'cifar10': ('CIFAR-10', 'CIFAR-10'),
    'cifar100': ('CIFAR-100', 'CIFAR-100'),
    'imagenet': ('ImageNet-1k', 'ImageNet-1k'),
    'coco': ('COCO 2017', 'COCO'),
    'coco_mini': ('COCO 2017', 'COCO'),
    'VOCdevkit': ('Pascal VOC', 'Pascal VOC'),
    'BCCD': ('BCCD', 'BCCD'),
    'sample': ('sample data set', 'sample data set'),
}
MEASURED = '(measured here)'


def metafiles(configs: Path, progress: Callable[[str], object] = lambda name: None) -> dict[Path, str]:
    """Return what every metafile under ``configs`` should say, by its path.

    Args:
        configs: Folder of the configs. Each folder in it that has a metafile keeps it.
        progress: Called with the name of each model.

    Raises:
        KeyError: A config's data set is unknown.
    """
    results = paper_results()
    return {path: _metafile(path, configs, results, progress) for path in sorted(configs.rglob('metafile.yml'))}


def paper_results() -> dict[str, dict[str, float]]:
    """The paper's accuracies by config, its path under ``configs/`` without ``.py``: by name and table."""
    results: dict[str, dict[str, float]] = {}
    for number, table in TABLES.items():
        for row in (row for group in table.groups for row in group):
            if number == 1:  # one row, two data sets
                for data, key in (('cifar10', 'C10'), ('cifar100', 'C100')):
                    config = row.config.replace('cifar100', data)
                    results[config] = {'Top-1 (paper, Table 1)': float(row.metrics[key])}
            else:
                results[row.config] = {f'{k} (paper, Table {number})': float(v) for k, v in row.metrics.items()}
    return results


def _metafile(
    path: Path, configs: Path, results: dict[str, dict[str, float]], progress: Callable[[str], object]
) -> str:
    text = path.read_text(encoding='utf-8')
    comment = ''.join(line + '\n' for line in text.splitlines() if line.startswith('#'))
    old = yaml.safe_load(text)
    known = {model['Config']: model for model in old.get('Models', ())}
    collection = old['Collections'][0]['Name'] if 'Collections' in old else 'EAN'
    models = []
    for file in sorted(path.parent.glob('*.py')):
        relative = file.relative_to(configs)
        before = known.get(f'configs/{relative.as_posix()}', {})
        name = before.get('Name', file.stem)
        measured = {k: v for entry in before.get('Results', ()) for k, v in entry['Metrics'].items() if MEASURED in k}
        metrics = {**results.get(relative.with_suffix('').as_posix(), {}), **measured}
        models.append(_model(name, before.get('In Collection', collection), file, relative, metrics))
        progress(name)
    content = {**({'Collections': old['Collections']} if 'Collections' in old else {}), 'Models': models}
    return comment + yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=120)


def _model(name: str, collection: str, file: Path, relative: Path, metrics: dict[str, float]) -> dict[str, Any]:
    config = Config.fromfile(file)
    network: Any = build_model(config)
    classifies = config.get('default_scope') == 'mmpretrain'
    training, tested = DATASETS[_data_root(config).rstrip('/').rsplit('/', 1)[-1]]
    kinds = {type(module).__name__ for module in attention_modules(network)}
    parts = [type(network.backbone).__name__, *sorted(kinds), *([] if classifies else [type(network).__name__])]
    entry: dict[str, Any] = {
        'Name': name,
        'In Collection': collection,
        'Config': f'configs/{relative.as_posix()}',
        'Metadata': {'Training Data': training, 'Architecture': parts, 'Parameters': _parameters(network)},
    }
    if metrics:
        task = 'Image Classification' if classifies else 'Object Detection'
        entry['Results'] = [{'Task': task, 'Dataset': tested, 'Metrics': metrics}]
    return entry


def _parameters(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


def _data_root(config: Config) -> str:
    dataset = config.val_dataloader.dataset
    while 'data_root' not in dataset:
        dataset = dataset['dataset'] if 'dataset' in dataset else dataset['datasets'][0]
    return dataset['data_root']
