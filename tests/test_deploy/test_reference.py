"""The lines of docs/deploy.md that run an exported file, where there is no torch."""

import json
import re

import mmdet
import numpy as np
import pytest
import torch
from mmdet.apis import inference_detector
from mmengine.config import Config
from PIL import Image

from ean_mmdet.datasets import CLASSES
from ean_mmdet.deploy import export_onnx, to_deploy
from ean_mmdet.deploy.onnx_export import description, size_divisor
from ean_mmdet.engine import build_model
from tests.conftest import ROOT
from tests.environments import link_packages, run_in
from tests.test_deploy.models import calibrated, faster_rcnn, retinanet, ssdlite, yolox
from tests.test_tools.tiny import write_config

pytestmark = pytest.mark.slow


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


# Height and width that are resized without a rounded pixel: by 1, and an SSD's by 2 and ½ of pixels in steps of 8. What
# OpenCV and the lines round otherwise would change the order of detections that are as good as equal.
SHAPES = {
    ssdlite: ((48, 192), (192, 48)),
    retinanet: ((90, 160), (160, 51)),
    yolox: ((75, 128), (128, 50)),
    faster_rcnn: ((90, 160), (160, 51)),
}


@pytest.mark.parametrize('detector', SHAPES, ids=lambda value: value.__name__)
def test_the_lines_of_the_docs_on_odd_shapes(detector, without_torch, sample_data, tmp_path):
    config, size = detector(write_config(tmp_path, sample_data), 'SE')
    if detector is yolox:
        stock = Config.fromfile(f'{mmdet.__path__[0]}/.mim/configs/yolox/yolox_s_8xb8-300e_coco.py')
        load, resize, pad, *rest = stock.test_dataloader.dataset.pipeline
        assert resize.keep_ratio and pad.pad_to_square and pad.pad_val.img == (114.0, 114.0, 114.0)
        resize.scale = (128, 128)
        config.test_dataloader.dataset.pipeline = [load, resize, pad, *rest]
    torch.manual_seed(0)
    paths = sorted((sample_data / 'JPEGImages').iterdir())[:8]
    model = calibrated(build_model(config), paths)
    model.cfg, classes, path = config, list(CLASSES), tmp_path / 'model.onnx'
    divisor, graph = size_divisor(config, model), to_deploy(model)
    export_onnx(graph, size, path, description(config, graph, classes, size, divisor), divisor)
    text = re.search(r'```python\n(import json\n.*?)```', (ROOT / 'docs/deploy.md').read_text(), re.DOTALL)[1]
    lines = text.replace('score > 0.3', 'score > 0').replace('box.round(1)', 'box.round(3)')
    (tmp_path / 'detect.py').write_text(lines)
    count = 0
    for number, (height, width) in enumerate(SHAPES[detector]):
        image = tmp_path / f'{number}.png'
        Image.open(paths[number]).resize((width, height)).point(lambda value: value // 8 * 8).save(image)
        expected = inference_detector(model, str(image)).pred_instances.numpy()
        done = run_in(without_torch, tmp_path / 'detect.py', path, image)
        assert done.returncode == 0, done.stderr
        found = [line.split() for line in done.stdout.splitlines()]
        labels = np.array([classes.index(name) for name, *_ in found])
        scores, boxes = np.array([score for _, score, *_ in found], float), np.array([b for _, _, *b in found], float)
        count, near = count + len(expected.scores), 0
        for box, score, label in zip(expected.bboxes, expected.scores, expected.labels):
            like = (labels == label) & (np.abs(scores - score) < 2e-3)
            near += bool((np.abs(boxes[like] - box).max(axis=1, initial=0) < 0.1 + 1e-4 * np.abs(box).max()).any())
        assert near >= 0.95 * len(expected.scores), f'{near} of {len(expected.scores)}'
    assert count >= 10
