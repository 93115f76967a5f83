"""Networks in 8 bits beside themselves in 32."""

import numpy as np
import onnx
import pytest
import torch
from mmengine.registry import MODELS
from PIL import Image

from ean_mmdet.deploy import export_onnx, load_exported, to_deploy
from ean_mmdet.deploy.int8 import calibration_images, quantize
from ean_mmdet.errors import InputError
from tests.test_deploy.models import classifier, randomized

pytestmark = pytest.mark.slow


@pytest.mark.parametrize('mode', ['dynamic', 'static'])
def test_eight_bits(mode, tmp_path):
    torch.manual_seed(0)
    config = classifier('EAN')
    config['backbone']['backbone'].update(num_stages=4, strides=(1, 2, 2, 2), dilations=(1,) * 4, out_indices=(3,))
    config['head']['in_channels'] = 128  # so that its size is that of its weights
    model = randomized(MODELS.build(config))
    path, out = tmp_path / 'float.onnx', tmp_path / 'int8.onnx'
    export_onnx(to_deploy(model), (64, 64), path, dict(task='classification', classes=list('abcdefg')))
    images = [dict(images=np.random.default_rng(i).normal(size=(1, 3, 64, 64)).astype(np.float32)) for i in range(8)]
    quantize(path, out, mode, iter(images))
    assert out.stat().st_size < 0.4 * path.stat().st_size
    (whole, _), (quantized, about) = load_exported(path), load_exported(out)
    assert about['classes'] == list('abcdefg')
    for inputs in images:
        (expected,), (actual,) = whole.run(None, inputs), quantized.run(None, inputs)
        np.testing.assert_allclose(actual, expected, atol=0.06)
        assert np.abs(actual - expected).max() > 0
    kinds = {node.op_type for node in onnx.load(out).graph.node}
    assert ('ConvInteger' if mode == 'dynamic' else 'QuantizeLinear') in kinds


def test_eight_bits_need_images(tmp_path, capfd):
    with pytest.raises(ValueError, match=r"mode must be one of .*, got 'int4'"):
        quantize(tmp_path / 'x.onnx', tmp_path / 'y.onnx', 'int4')
    with pytest.raises(ValueError, match='static quantization needs inputs to calibrate on'):
        quantize(tmp_path / 'x.onnx', tmp_path / 'y.onnx', 'static')
    with pytest.raises(InputError, match='holds no image; images end in'):
        calibration_images(tmp_path, 4)
    for i in range(10):
        Image.new('RGB', (8, 8)).save(tmp_path / f'{i}.jpg')
    assert [path.stem for path in calibration_images(tmp_path, 5)] == ['0', '2', '4', '6', '8']
    (tmp_path / '4.jpg').write_bytes(b'')
    assert [path.stem for path in calibration_images(tmp_path, 5)] == ['0', '2', '6', '8']
    assert 'left out: ' in capfd.readouterr().err
