"""Exported graphs against the models that they are of, on real images, by onnxruntime."""

import json
from collections import Counter

import numpy as np
import onnx
import pytest
import torch
from mmdet.apis import inference_detector
from mmengine.registry import MODELS
from mmpretrain.structures import DataSample

from ean_mmdet import attention
from ean_mmdet.attention import MODULES
from ean_mmdet.deploy import ExportedClassifier, export_onnx, export_torch, load_exported, to_deploy, use_exported
from ean_mmdet.deploy.plain_ean import PlainEAN
from ean_mmdet.engine import build_model
from ean_mmdet.errors import InputError
from tests.test_deploy.models import (
    calibrated,
    classifier,
    faster_rcnn,
    randomized,
    retinanet,
    ssdlite,
    with_all_gates,
    yolox,
)
from tests.test_tools.tiny import write_config

pytestmark = pytest.mark.slow


@pytest.fixture(scope='module')
def tiny(tmp_path_factory, sample_data):
    return write_config(tmp_path_factory.mktemp('config'), sample_data)


@pytest.mark.parametrize('detector', [ssdlite, retinanet, yolox, faster_rcnn], ids=lambda value: value.__name__)
def test_detections_are_the_models(detector, tiny, sample_data, tmp_path):
    """Every gate in every detector: in one network, as an export takes seconds."""
    config, size = detector(tiny, 'SE')
    torch.manual_seed(0)
    paths = sorted((sample_data / 'JPEGImages').iterdir())[:8]
    model = calibrated(with_all_gates(build_model(config)), paths)
    path = tmp_path / 'model.onnx'
    about = dict(task='detection', classes=['circle', 'square', 'triangle', 'star', 'cross'])
    sizes = [size] if detector is ssdlite else [size, (160, 192)]
    export_onnx(to_deploy(model), size, path, about, None if detector is ssdlite else 32)
    use_exported(exported_config := config.copy(), str(path))
    exported = MODELS.build(exported_config.model)
    images = [str(path) for path in paths[:3]]
    for height, width in sizes:
        config.test_dataloader.dataset.pipeline[1].scale = (width, height)
        model.cfg = exported.cfg = config
        for batch in (images[:1], images[1:]):
            with_torch, with_onnx = inference_detector(model, batch), inference_detector(exported, batch)
            for expected, actual in zip(with_torch, with_onnx):
                expected, actual = expected.pred_instances.numpy(), actual.pred_instances.numpy()
                assert len(expected.scores) >= 5
                count = min(len(expected.scores), len(actual.scores))
                assert abs(len(expected.scores) - len(actual.scores)) <= 1  # one at the threshold
                np.testing.assert_allclose(actual.scores[:count], expected.scores[:count], atol=1e-4)
                assert agreement(expected, actual) >= 0.98


def test_an_image_smaller_or_larger_than_the_graphs(tmp_path):
    path = tmp_path / 'x.onnx'
    export_onnx(
        to_deploy(randomized(MODELS.build(classifier('SE')))), (96, 96), path, dict(task='classification', classes=[])
    )
    exported = ExportedClassifier(str(path), dict(type='mmpretrain.ClsDataPreprocessor'))
    image = torch.rand(1, 3, 64, 80)
    (smaller,) = exported(image, [DataSample()])
    (padded,) = exported(torch.nn.functional.pad(image, (0, 16, 0, 32)), [DataSample()])
    torch.testing.assert_close(smaller.pred_score, padded.pred_score)
    with pytest.raises(InputError, match=r'takes images of 96 × 96 \(height × width\), not 128 × 96'):
        exported(torch.zeros(1, 3, 128, 96), [DataSample()])


def agreement(expected, actual):
    """Share of the detections that the other has within 0.1 pixel and 1e-4, wherever equal scores put it."""
    found = 0
    for box, score, label in zip(expected.bboxes, expected.scores, expected.labels):
        near = (np.abs(actual.scores - score) < 1e-4) & (actual.labels == label)
        # 0.1 pixel, and of boxes far outside of the image the sixth digit
        found += bool((np.abs(actual.bboxes[near] - box) < 0.1 + 1e-5 * np.abs(box)).all(1).any())
    return found / len(expected.scores)


@pytest.mark.parametrize('name', MODULES)
def test_classifiers_by_onnx_and_by_torch_export(name, tmp_path):
    model = randomized(MODELS.build(classifier(name)))
    graph = to_deploy(model)
    path = tmp_path / 'model.onnx'
    export_onnx(graph, (64, 64), path, dict(task='classification', classes=list('abcdefg')))
    session, about = load_exported(path)
    assert about['classes'] == list('abcdefg')
    export_torch(graph, (64, 64), tmp_path / 'model.pt2', about)
    program = torch.export.load(str(tmp_path / 'model.pt2')).module()
    for batch in (1, 3):
        x = torch.randn(batch, 3, 64, 64)
        with torch.no_grad():
            expected = model(x, mode='tensor').softmax(1)
            torch.testing.assert_close(program(x), expected, rtol=1e-4, atol=1e-5)
        (scores,) = session.run(None, dict(images=x.numpy()))
        np.testing.assert_allclose(scores, expected.numpy(), rtol=1e-3, atol=1e-5)


def test_ean_is_a_handful_of_standard_nodes(tmp_path):
    backbone = MODELS.build(dict(type='EANResNet', depth=18, base_channels=16, groups=4, out_indices=(3,)))
    config = classifier('EAN')
    config['head']['in_channels'] = 128
    model = MODELS.build(config)
    model.backbone = backbone
    export_onnx(to_deploy(randomized(model)), (32, 32), tmp_path / 'x.onnx', dict(task='classification', classes=[]))
    graph = onnx.load(tmp_path / 'x.onnx').graph
    kinds = [node.op_type for node in graph.node]
    # of each of eight EANs a norm, a sigmoid and a product; of each block an addition
    others = Counter(kind for kind in kinds if kind not in ('Conv', 'Relu', 'MaxPool', 'Gemm', 'Softmax'))
    assert {kind: others.pop(kind) for kind in ('InstanceNormalization', 'Sigmoid', 'Mul', 'Add')} == {
        'InstanceNormalization': 8, 'Sigmoid': 8, 'Mul': 8, 'Add': 8,
    }  # fmt: skip
    assert sum(others.values()) <= 4, others  # the pooling in front of the classifier


def test_plain_ean_is_ean():
    for norm in ('l2', 'rms', 'l1'):
        ean = randomized(attention.EAN(24, groups=4, weight_norm=norm)).double()
        x = torch.randn(2, 24, 5, 4, dtype=torch.float64)
        for part in (x, x[..., :1, :1]):
            torch.testing.assert_close(PlainEAN(ean)(part), ean(part))


def test_raw_heads(tiny, tmp_path):
    config, size = ssdlite(tiny, 'EAN')
    model = randomized(build_model(config))
    graph = to_deploy(model, raw=True)
    export_onnx(graph, size, tmp_path / 'raw.onnx', dict(task='raw'))
    session, _ = load_exported(tmp_path / 'raw.onnx')
    x = torch.randn(2, 3, *size)
    with torch.no_grad():
        expected = [level for kind in model.bbox_head(model.extract_feat(x)) for level in kind]
    outputs = session.run(None, dict(images=x.numpy()))
    assert len(outputs) == len(expected) == 8
    for actual, value in zip(outputs, expected):
        np.testing.assert_allclose(actual, value.numpy(), rtol=1e-3, atol=1e-3)


def test_what_cannot_be_exported(tiny):
    config, _ = ssdlite(tiny, 'EAN')
    config.model.test_cfg.nms = dict(type='soft_nms', iou_threshold=0.5)
    with pytest.raises(InputError, match=r'test_cfg\.nms=.*soft_nms.* has no export'):
        to_deploy(build_model(config))
    with pytest.raises(InputError, match='EAN has no export; image classifiers and detectors'):
        to_deploy(attention.EAN(8, groups=2))


def test_files_that_are_not_ours(tiny, tmp_path):
    config, _ = ssdlite(tiny, 'EAN')
    with pytest.raises(InputError, match=r'no exported model at .*absent\.onnx'):
        use_exported(config, str(tmp_path / 'absent.onnx'))
    (tmp_path / 'cut.onnx').write_bytes(b'\x08\x0a\x12')
    with pytest.raises(InputError, match=r'cut\.onnx is no ONNX model, or truncated'):
        use_exported(config, str(tmp_path / 'cut.onnx'))
    node = onnx.helper.make_node('Identity', ['images'], ['scores'])
    values = [onnx.helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, [1, 2]) for n in ('images', 'scores')]
    model = onnx.helper.make_model(onnx.helper.make_graph([node], 'g', values[:1], values[1:]), ir_version=9)
    model.opset_import[0].version = 18
    onnx.save(model, tmp_path / 'foreign.onnx')
    with pytest.raises(InputError, match=r'foreign\.onnx has no metadata of ean_mmdet: export it by tools/export\.py'):
        use_exported(config, str(tmp_path / 'foreign.onnx'))
    entry = model.metadata_props.add()
    entry.key, entry.value = 'ean_mmdet', json.dumps(dict(task='classification', classes=['a']))
    onnx.save(model, tmp_path / 'classifier.onnx')
    use_exported(config, str(tmp_path / 'classifier.onnx'))
    with pytest.raises(InputError, match="is of the task 'classification', and 'detection' is wanted"):
        MODELS.build(config.model)


def test_a_write_that_fails_leaves_nothing(tmp_path, monkeypatch):
    graph = to_deploy(randomized(MODELS.build(classifier('SE'))))
    import pathlib

    monkeypatch.setattr(pathlib.Path, 'write_bytes', lambda *_: (_ for _ in ()).throw(OSError(28, 'No space left')))
    with pytest.raises(InputError, match=r'cannot write .*x\.onnx: .*No space left'):
        export_onnx(graph, (32, 32), tmp_path / 'x.onnx', dict(task='classification'))
    assert not list(tmp_path.iterdir())


def test_the_norm_with_attention_exports_too(tmp_path):
    config = classifier('EAN')
    config['backbone'] = dict(type='ANResNet', depth=50, base_channels=8, out_indices=(3,))
    config['head']['in_channels'] = 256
    model = randomized(MODELS.build(config))
    export_onnx(to_deploy(model), (64, 64), tmp_path / 'x.onnx', dict(task='classification', classes=[]))
    session, _ = load_exported(tmp_path / 'x.onnx')
    x = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        expected = model(x, mode='tensor').softmax(1)
    np.testing.assert_allclose(session.run(None, dict(images=x.numpy()))[0], expected.numpy(), rtol=1e-3, atol=1e-5)


def test_a_detector_by_torch_export(tiny, tmp_path):
    config, size = faster_rcnn(tiny, 'EAN')
    graph = to_deploy(build_model(config))
    export_torch(graph, size, tmp_path / 'x.pt2', {})
    program = torch.export.load(str(tmp_path / 'x.pt2')).module()
    images, sizes = torch.randn(1, 3, *size), torch.tensor([size], dtype=torch.float32)
    with torch.no_grad():
        for actual, expected in zip(program(images, sizes), graph(images, sizes)):
            torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-4)


def test_the_tools_evaluate_and_run_an_exported_model(tiny, sample_data, tmp_path, run_tool):
    work_dir = tmp_path / 'run'
    run_tool('train.py', tiny, '--work-dir', work_dir)
    checkpoint, path = work_dir / 'iter_6.pth', work_dir / 'iter_6.onnx'
    result = run_tool('export.py', tiny, checkpoint)
    int8 = ['--int8', 'static', '--calibration', sample_data / 'JPEGImages', '--calibration-images', 4]
    run_tool('export.py', tiny, checkpoint, *int8)
    assert (work_dir / 'iter_6_static.onnx').stat().st_size < 0.6 * path.stat().st_size
    result_of_none = run_tool('export.py', tiny, checkpoint, *int8[:2], check=False)
    assert '--int8 static needs --calibration FOLDER' in result_of_none.stderr
    assert f'writing {path}' in result.stdout.partition(f'wrote {path}')[0]  # before it does
    wrong = run_tool('export.py', tiny, checkpoint, '--out', tmp_path / 'x.pt2', check=False)
    assert wrong.returncode == 2 and '--format onnx is written to a file that ends in .onnx' in wrong.stderr
    assert 'images, sizes → boxes, scores, labels' in result.stdout
    _, about = load_exported(path)
    assert about['height'] == about['width'] == 96 and about['channels'] == 'RGB' and len(about['mean']) == 3
    assert about['resize'] == [dict(type='Resize', scale=[96, 96], keep_ratio=False)]
    scores = []
    for number, model in enumerate((checkpoint, path)):
        out = tmp_path / f'{number}.json'
        run_tool('test.py', tiny, model, '--work-dir', tmp_path / str(number), '--out', out)
        scores.append(sorted((entry['image_id'], entry['score']) for entry in json.loads(out.read_text())))
    # after six iterations scores are nearly tied, so that mAP depends on which of them come first
    assert len(scores[0]) == len(scores[1]) == 8 * 20
    np.testing.assert_allclose(scores[0], scores[1], rtol=0, atol=1e-4)
    run_tool('infer.py', sample_data / 'JPEGImages/000001.jpg', tiny, path, '--out-dir', tmp_path / 'out')
    assert json.loads((tmp_path / 'out/detections.json').read_text())['annotations']
