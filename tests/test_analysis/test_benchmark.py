import json

import pytest
from mmengine.registry import MODELS
from PIL import Image

from ean_mmdet.analysis import benchmark_ops as ops
from ean_mmdet.analysis.benchmark import (
    BACKBONES,
    benchmark,
    modules,
    plot,
    tables,
)
from ean_mmdet.attention import MODULES

pytestmark = pytest.mark.slow


@pytest.fixture(scope='module')
def result():
    lines = []
    result = benchmark('mobilenext', ['SE', 'EAN'], shape=(64, 64), repeat=1, progress=lines.append)
    assert sum('peak memory' in line for line in lines) == 9
    return result


@pytest.mark.parametrize('backbone', BACKBONES)
def test_every_module_of_the_registry_is_compared(backbone):
    names = modules(backbone)
    assert names[:2] == ['plain', 'EAN']
    left_out = {'AN'} if backbone == 'mobilenext' else set()
    assert set(names) == {'plain', 'AN', *MODULES} - left_out


@pytest.mark.parametrize(('backbone', 'name'), [(b, name) for b in BACKBONES for name in modules(b)])
def test_networks_hold_what_they_are_called(backbone, name):
    network = MODELS.build(BACKBONES[backbone][0](name))
    found = {type(module).__name__ for module in network.modules()} & {'AN', *MODULES}
    assert found == ({name} if name != 'plain' else set())


def test_nothing_learned_starts_at_zero(monkeypatch):
    """Behind a zero, gradients are subnormal, which takes a CPU several times as long."""
    built, build = [], MODELS.build
    monkeypatch.setattr(MODELS, 'build', lambda config, *args, **kwargs: built.append(build(config)) or built[-1])
    benchmark('resnet50', ['EAN', 'SE'], (64, 64), batch=2, repeat=1, training=False)
    networks = [module for module in built if hasattr(module, 'res_layers')]
    assert len(networks) == 3
    assert all(parameter.any() for network in networks for parameter in network.parameters())


def test_ratios_are_to_the_plain_network(result):
    rows = {row['name']: row for row in result['rows']}
    assert list(rows) == ['plain', 'SE', 'EAN']
    assert rows['EAN']['params'] - rows['plain']['params'] == 3640
    for row in result['rows']:
        for name, figures in row['passes'].items():
            plain = rows['plain']['passes'][name]
            assert figures['ratio'] == figures['seconds'] / plain['seconds']
            assert figures['throughput'] == 1 / figures['seconds']
            assert figures['memory_ratio'] == figures['memory'] / plain['memory'] > 0
    assert rows['SE']['passes']['training']['memory'] > rows['plain']['passes']['training']['memory']


def test_tables_and_picture(result, tmp_path):
    titles = [table.title.split(':')[0] for table in tables(result)]
    assert titles == [f'mobilenext, {name}' for name in ('inference', 'training', 'training, norm_eval')]
    assert all(len(table.rows) == 3 for table in tables(result))
    plot(result, tmp_path / 'new' / 'speed.png')
    width, height = Image.open(tmp_path / 'new' / 'speed.png').size
    assert width > height > 300


def test_ops_against_the_plain_formula(monkeypatch):
    monkeypatch.setitem(ops.NETWORKS, 'small', (4, ((8, 6, 5), (16, 3, 3))))
    result = ops.benchmark_ops(batch=2, repeat=1, compiled=False, networks=['small'])
    assert [row['shape'] for row in result['rows'][::3]] == [[2, 8, 6, 5], [2, 16, 3, 3]]
    for row in result['rows']:
        assert row['ratio']['plain'] == row['seconds']['plain'] / row['seconds']['EAN']
        assert row['memory']['EAN']['kept'] < row['memory']['plain']['kept']
    assert result['means']['inference']['all']['slowest'] == min(
        row['ratio']['plain'] for row in result['rows'] if row['pass'] == 'inference'
    )
    tables = ops.tables(result)
    assert len(tables) == 4
    assert all(len(row) == len(table.header) for table in tables for row in table.rows)


def test_tool(run_tool, tmp_path):
    out = tmp_path / 'figures.json'
    options = '--backbone mobilenext --attention EAN --shape 64 64 --repeat 1 --no-training --layout channels_last'
    printed = run_tool('benchmark.py', *options.split(), '--out', out).stdout
    assert 'of plain' in printed and f'wrote {out}' in printed
    written = json.loads(out.read_text())
    assert written['settings']['layout'] == 'channels_last'
    assert [list(row['passes']) for row in written['rows']] == [['inference']] * 2
    assert out.with_suffix('.png').is_file()
    wrong = run_tool('benchmark.py', '--backbone', 'mobilenext', '--attention', 'AN', check=False)
    assert wrong.returncode == 2 and 'mobilenext can have EAN, CA' in wrong.stderr


@pytest.mark.parametrize('tool', ['benchmark.py', 'benchmark_ops.py'])
def test_a_file_that_can_not_be_written_is_refused_at_once(run_tool, tmp_path, tool):
    (tmp_path / 'file').touch()
    for out, message in (
        (tmp_path / 'figures.png', 'must be a file whose name ends in .json'),
        (tmp_path / 'file' / 'figures.json', 'its folder cannot be created'),
    ):
        wrong = run_tool(tool, '--out', out, check=False)
        assert wrong.returncode == 2 and f'--out {out}' in wrong.stderr and message in wrong.stderr


def test_small_maps(run_tool, tmp_path):
    out = tmp_path / 'figures.json'
    printed = run_tool('benchmark_ops.py', '--small-maps', '--batch', '2', '--repeat', '1', '--out', out).stdout
    assert '2×1280×1×1' in printed and 'training, channels_last' in printed
    assert all(row['norm'] > 0 and row['both'] > 0 for row in json.loads(out.read_text()))


def test_exported_networks_by_onnxruntime(tmp_path):
    result = benchmark('mobilenext', ['EAN'], (64, 64), repeat=1, runtime='onnxruntime')
    assert result['settings']['runtime'] == 'onnxruntime'
    for row in result['rows']:
        assert list(row['passes']) == ['inference'] and 'memory' not in row['passes']['inference']
        assert row['passes']['inference']['seconds'] > 0
    assert 'onnxruntime' in tables(result)[0].title
    plot(result, tmp_path / 'x.png')
