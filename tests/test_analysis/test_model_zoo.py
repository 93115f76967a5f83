from pathlib import Path

import pytest
from rich.console import Console

from ean_mmdet.analysis import model_zoo, paper_table
from ean_mmdet.analysis.against_paper import difference
from ean_mmdet.analysis.model_zoo import FOLDERS
from ean_mmdet.analysis.paper_tables import TABLES
from ean_mmdet.table import Table

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = ROOT / 'configs'
FILES = {file.stem: file for folder in FOLDERS for file in (CONFIGS / folder).glob('*.py')}


@pytest.fixture(scope='module')
def page():
    return model_zoo(CONFIGS)


def test_model_zoo_is_up_to_date(page):
    assert (ROOT / 'docs' / 'model_zoo.md').read_text(encoding='utf-8') == page, (
        'docs/model_zoo.md is old: run python tools/complexity.py --model-zoo'
    )


def rows_of(page, number):
    section = page.partition(f'## Table {number}:')[2].partition('\n## ')[0]
    lines = [[cell.strip() for cell in line.split('|')[1:-1]] for line in section.splitlines() if line.startswith('|')]
    return {line[0]: line for line in lines[2:]}


def test_what_must_equal_the_paper(page):
    rows = rows_of(page, 3)
    assert len(rows) == 21
    for name in ('MobileNeXt', *(f'{module}-MobileNeXt' for module in ('SE', 'CBAM', 'CA', 'EAN', 'SGE'))):
        assert rows[name][3] == rows[name][6] == '=', name
    for name in ('SE-MobileNetV2', 'CA-MobileNetV2'):
        assert rows[name][3] == '=', name
    assert rows['CA-MobileNetV2'][6] == '='
    for name in ('ResNet-50', 'SE-ResNet-50', 'CBAM-ResNet-50', 'CA-ResNet-50', 'EAN-ResNet-50'):
        assert rows[name][3] == '=', name
    rows = rows_of(page, 1)
    for name in (
        'SE-MobileNeXt',
        'CBAM-MobileNeXt',
        'SGE-MobileNeXt',
        'CA-MobileNeXt',
        'MobileNetV2',
        'CA-MobileNetV2',
    ):
        assert rows[name][3] == rows[name][6] == '=', name
    for name in ('ShuffleNetV2', 'SE-ShuffleNetV2', 'DenseNet-121', 'EAN-DenseNet-121'):
        assert rows[name][3] == '=', name
    rows = rows_of(page, 2)
    for name in ('WRN-28-10', 'SE-WRN-28-10', 'CBAM-WRN-28-10', 'EAN-WRN-28-10'):
        assert rows[name][3] == rows[name][6] == '=', name
    for name in ('CA-WRN-28-10', 'ResNet-56', 'CBAM-ResNet-56', 'SA-ResNet-56', 'CA-ResNet-56', 'EAN-ResNet-56'):
        assert rows[name][3] == '=', name
    for number in (4, 5):
        assert {row[7] for name, row in rows_of(page, number).items() if 'MobileNeXt' in name} == {'', '='}


def test_what_is_known_to_differ_is_printed_as_it_is(page):
    rows = rows_of(page, 1)
    assert rows['EfficientNet-B0'][1:7] == ['4.1356', '4.66', '-0.52', '9.199 M', '8.79 M', '+0.41']
    rows = rows_of(page, 3)
    assert rows['CBAM-MobileNetV2'][4:7] == ['334.249 M', '332.37 M', '+1.88']
    assert rows['ResNet-50'][4:7] == ['4.1337 G', '4.11 G', '+0.02']
    rows = rows_of(page, 4)
    assert rows['EAN-MobileNeXt'][2:8] == ['3.4333', '4.4', '-1.0', '0.0036', '0.0', '=']


def test_accuracies_are_marked_as_the_papers(page):
    assert "**Accuracies are the paper's**" in page
    for number, table in TABLES.items():
        section = page.partition(f'## Table {number}:')[2].partition('\n## ')[0]
        for metric in table.groups[0][0].metrics:
            assert f' {metric} (paper) |' in section
    assert rows_of(page, 5)['EAN-ResNet-50'][-3:] == ['38.4', '60.8', '42.2']


def test_paper_figures_are_the_papers():
    paper = ROOT.parent / 'shared' / 'papers' / 'ean_aaai2024.txt'
    if not paper.is_file():
        pytest.skip(f'{paper} is not here')
    text = paper.read_text(encoding='utf-8')
    for number, table in TABLES.items():
        for row in (row for group in table.groups for row in group):
            metrics = row.metrics
            if number == 1:
                line = f'\t{row.params}M/{row.operations}\t{metrics["C10"]}\t{metrics["C100"]}'
                assert line in text, row.name
            elif number == 2:
                assert f'\t{row.params}\t{row.operations[:-1]}\t{metrics["Top-1"]}' in text, row.name
            elif number == 3:
                lines = [line for line in text.splitlines() if f'\t{row.params}M\t{row.operations}\t' in line]
                assert any(line.endswith(f'\t{metrics["Top-1"]}') for line in lines), row.name
            elif number == 4:
                assert f'{row.name}\tSSDLite320\t{row.params}\t{metrics["mAP"]}' in text, row.name
            else:
                name = row.name.replace('-50', '50')
                figures = '\t'.join((row.params, metrics['AP@.5'], metrics['AP@.75'], metrics['mAP']))
                assert f'{name}\t{figures}' in text, row.name


def test_progress_is_told():
    names = []
    paper_table(4, CONFIGS, names.append)
    assert names == ['MobileNeXt', 'SE-MobileNeXt', 'CA-MobileNeXt', 'EAN-MobileNeXt']


@pytest.mark.parametrize(
    ('count', 'printed', 'unit', 'text'),
    [
        (3_535_416, '3.54', 'M', '='),
        (4_134_000_000, '4.11', 'G', '+0.02'),
        (4_200_247, '4.39', 'M', '-0.19'),
        (41_753_056, '41.7', 'M', '+0.1'),
    ],
)
def test_difference(count, printed, unit, text):
    assert difference(count, printed, unit) == text


def test_table():
    table = Table('Nets', ('Net', 'Params'), (('a', '1.5'), ('b', '')), ('A note.',))
    assert table.markdown() == '| Net | Params |\n| --- | ---: |\n| a | 1.5 |\n| b |  |\n\nA note.\n'
    console = Console(width=60)
    with console.capture() as capture:
        console.print(table.rich())
    assert 'Nets' in capture.get() and '│ a   │    1.5 │' in capture.get() and 'A note.' in capture.get()
