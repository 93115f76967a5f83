"""The lines of docs/deploy.md that run an exported file, where there is no torch."""

import json
import re

import numpy as np
import pytest

from tests.conftest import ROOT
from tests.environments import link_packages, run_in
from tests.test_tools.tiny import write_config


@pytest.fixture(scope='module')
def without_torch(tmp_path_factory):
    """A folder of packages: onnxruntime, numpy, Pillow and what they need."""
    return link_packages(tmp_path_factory.mktemp('packages'), 'onnxruntime', 'numpy', 'pillow')


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory, sample_data, run_tool):
    folder = tmp_path_factory.mktemp('trained')
    run_tool('train.py', write_config(folder, sample_data), '--work-dir', folder / 'run')
    return folder / 'run/iter_6.pth'


@pytest.mark.parametrize('keep_ratio', [False, True])
def test_the_lines_of_the_docs(keep_ratio, without_torch, checkpoint, sample_data, tmp_path, run_tool):
    tiny = write_config(tmp_path, sample_data)
    if keep_ratio:
        tiny.write_text(tiny.read_text() + 'test_pipeline[1].update(scale=(96, 72), keep_ratio=True)\n')
    model, image = tmp_path / 'model.onnx', sample_data / 'JPEGImages/000001.jpg'
    run_tool('export.py', tiny, checkpoint, '--out', model, '--shape', 96, 96)
    run_tool('infer.py', image, tiny, model, '--out-dir', tmp_path / 'out')
    result = json.loads((tmp_path / 'out/detections.json').read_text())
    names = {category['id']: category['name'] for category in result['categories']}
    best = sorted(result['annotations'], key=lambda entry: -entry['score'])
    threshold = (best[7]['score'] + best[8]['score']) / 2  # a network that learned for 6 steps is sure of nothing
    lines = re.search(r'```python\n(import json\n.*?)```', (ROOT / 'docs/deploy.md').read_text(), re.DOTALL)[1]
    assert 'score > 0.3' in lines
    (tmp_path / 'detect.py').write_text(lines.replace('score > 0.3', f'score > {threshold}'))

    assert "No module named 'torch'" in run_in(without_torch, '-c', 'import torch').stderr
    done = run_in(without_torch, tmp_path / 'detect.py', model, image)
    assert done.returncode == 0, done.stderr
    printed = [line.split() for line in done.stdout.splitlines()]
    assert len(printed) == 8
    for (name, score, *box), expected in zip(printed, best):
        assert float(score) == pytest.approx(expected['score'], abs=0.01)
        x, y, width, height = expected['bbox']
        if name == names[expected['category_id']]:
            np.testing.assert_allclose(np.array(box, float), [x, y, x + width, y + height], atol=1.5)
    assert printed[0][0] == names[best[0]['category_id']]
