import pytest
from mmengine.registry import MODELS

from ean_mmdet.analysis.benchmark_files import benchmark_files, files_table
from ean_mmdet.deploy import export_onnx, to_deploy
from tests.test_deploy.models import classifier


@pytest.mark.slow
def test_exported_files_side_by_side(tmp_path):
    paths = []
    for number, name in enumerate(('SE', 'EAN')):
        paths.append(tmp_path / f'{name}.onnx')
        about = dict(task='classification', classes=[], height=32 * (number + 1), width=32)
        export_onnx(to_deploy(MODELS.build(classifier(name))), (32 * (number + 1), 32), paths[-1], about)
    rows = benchmark_files(paths, repeat=2)
    assert [row['name'] for row in rows] == [str(path) for path in paths] and rows[0]['ratio'] == 1
    assert rows[1]['ratio'] == pytest.approx(rows[1]['seconds'] / rows[0]['seconds'])
    assert len(files_table(rows).rows) == 2
