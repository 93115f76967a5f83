"""model-index.yml and the metafiles, which mim and MMEngine read."""

import pytest
from modelindex.load_model_index import load
from torch import nn

from ean_mmdet.analysis import metafiles
from ean_mmdet.analysis.paper_tables import TABLES
from tests.conftest import ROOT

pytestmark = pytest.mark.slow

CONFIGS = ROOT / 'configs'
FOLDERS = [folder for folder in sorted(CONFIGS.iterdir()) if folder.is_dir() and folder.name != '_base_']
FILES = {
    f'configs/{file.relative_to(CONFIGS).as_posix()}' for folder in (CONFIGS, *FOLDERS) for file in folder.glob('*.py')
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


def test_metafiles_are_up_to_date(monkeypatch):
    for layer in (nn.Conv2d, nn.Linear):  # no initial weights: only their number counts
        monkeypatch.setattr(layer, 'reset_parameters', lambda self: None)
    for path, text in metafiles(CONFIGS).items():
        assert path.read_text(encoding='utf-8') == text, f'{path} is old: run python tools/complexity.py --metafiles'


def test_entries_say_what_is_known(models):
    metadata = {file: model.data['Metadata'].data for file, model in models.items()}
    known = {
        'configs/faster_rcnn_ean_r50_coco.py': ('COCO 2017', ['EANResNet', 'EAN', 'FasterRCNN'], 41_754_000),
        'configs/pretrain/se_mobilenext_imagenet.py': ('ImageNet-1k', ['MobileNeXt', 'SE'], 4_191_759),
        'configs/pretrain/wrn28_10_cifar100.py': ('CIFAR-100', ['WideResNet'], 36_546_980),
        'configs/ela/yolox_nano_voc.py': ('Pascal VOC', ['CSPDarknet', 'YOLOX'], 900_459),
    }
    for file, (data, architecture, parameters) in known.items():
        entry = metadata[file]
        assert (entry['Training Data'], entry['Architecture'], entry['Parameters']) == (data, architecture, parameters)


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
