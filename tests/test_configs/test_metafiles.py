"""model-index.yml and the metafiles, which mim and MMEngine read."""

import pytest
from mmengine.config import Config
from modelindex.load_model_index import load
from torch import nn

from ean_mmdet.analysis.paper_tables import TABLES
from ean_mmdet.engine import build_model
from tests.conftest import ROOT

CONFIGS = ROOT / 'configs'
FOLDERS = [folder for folder in sorted(CONFIGS.iterdir()) if folder.is_dir() and folder.name != '_base_']
FILES = {
    f'configs/{file.relative_to(CONFIGS).as_posix()}' for folder in (CONFIGS, *FOLDERS) for file in folder.glob('*.py')
}
DATASETS = {
    'CIFAR-10': 'CIFAR10',
    'CIFAR-100': 'CIFAR100',
    'ImageNet-1k': 'ImageNet',
    'COCO 2017': 'CocoDataset',
    'Pascal VOC': 'VOCDataset',
    'BCCD': 'VOCDataset',
    'sample data set': 'CocoDataset',
}


@pytest.fixture(scope='module')
def models():
    index = load(str(ROOT / 'model-index.yml'))
    index.build_models_with_collections()
    return {model.config: model for model in index.models}


@pytest.mark.parametrize('folder', FOLDERS, ids=lambda folder: folder.name)
def test_every_folder_has_its_readme_and_metafile(folder):
    assert (folder / 'README.md').is_file() and (folder / 'metafile.yml').is_file()


def test_every_config_has_an_entry_of_its_own(models):
    assert set(models) == FILES
    assert len({model.name for model in models.values()}) == len(FILES)
    assert {model.in_collection for model in models.values()} == {'EAN', 'ELA', 'AN'}


def test_entries_agree_with_the_configs(models, monkeypatch):
    for layer in (nn.Conv2d, nn.Linear):  # no initial weights: only their number counts
        monkeypatch.setattr(layer, 'reset_parameters', lambda self: None)
    for file, model in models.items():
        config = Config.fromfile(ROOT / file)
        metadata = model.data['Metadata'].data
        network = build_model(config)
        assert metadata['Parameters'] == sum(p.numel() for p in network.parameters()), file
        types = {type(module).__name__ for module in network.modules()}
        assert set(metadata['Architecture']) <= types, file
        dataset = config.val_dataloader.dataset
        while 'dataset' in dataset:
            dataset = dataset.dataset
        assert DATASETS[metadata['Training Data']] in dataset.type, file


def paper_rows():
    """The paper's rows by config: the table's number, and the metrics that are this config's."""
    for number, table in TABLES.items():
        for row in (row for group in table.groups for row in group):
            if number == 1:  # one row, two data sets
                yield f'configs/{row.config}.py', 1, {'Top-1': row.metrics['C100']}
                yield f'configs/{row.config.replace("cifar100", "cifar10")}.py', 1, {'Top-1': row.metrics['C10']}
            else:
                yield f'configs/{row.config}.py', number, row.metrics


def test_results_are_marked_and_those_of_the_paper_are_its(models):
    found = {}
    for file, model in models.items():
        for result in model.data['Results'].data if 'Results' in model.data else ():
            metrics = result.data['Metrics']
            assert all('paper, Table' in name or name.endswith('(measured here)') for name in metrics), file
            if any('paper' in name for name in metrics):
                found[file] = {name: float(value) for name, value in metrics.items()}
    assert found == {
        file: {f'{name} (paper, Table {number})': float(value) for name, value in metrics.items()}
        for file, number, metrics in paper_rows()
    }
