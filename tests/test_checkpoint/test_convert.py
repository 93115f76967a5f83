import copy

import pytest
import torch
import torchvision
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.registry import MODELS
from mmengine.runner.checkpoint import load_checkpoint
from mmengine.structures import InstanceData

from ean_mmdet.checkpoint import convert_checkpoint
from ean_mmdet.errors import InputError
from tests.conftest import ROOT
from tests.test_checkpoint.networks import assert_same_outputs, train_a_little

pytestmark = pytest.mark.slow

CLASSES = ('circle', 'square', 'triangle', 'star', 'cross')


def small_ssdlite(backbone: str, **kwargs) -> Config:
    name = 'ssdlite320_ean_mobilenext_voc' if backbone == 'EANMobileNeXt' else 'ssdlite320_mobilenext_voc'
    config = Config.fromfile(ROOT / f'configs/{name}.py')
    config.model.backbone.update(widen_factor=0.25, last_channels=320)
    config.model.neck.update(in_channels=(144, 320), out_channels=(144, 320, 64, 64, 64, 64))
    config.model.bbox_head.in_channels = (144, 320, 64, 64, 64, 64)
    config.model.update(kwargs)
    return config


def faster_rcnn(backbone: str) -> Config:
    config = Config.fromfile(ROOT / f'configs/faster_rcnn_{"ean_r50" if backbone == "EANResNet" else "r50"}_coco.py')
    config.model.backbone.update(init_cfg=None, norm_eval=False, frozen_stages=-1)
    config.model.rpn_head.anchor_generator.scales = [2]
    config.model.test_cfg.rcnn.score_thr = 0.001
    config.model.test_cfg.rpn.max_per_img = 50
    return config


def samples(number: int, size: int) -> list[DetDataSample]:
    result = []
    for index in range(number):
        corner = torch.rand(2, 2) * size / 2
        boxes = torch.cat([corner, corner + size / 4 + torch.rand(2, 2) * size / 4], dim=1)
        shape = dict(img_shape=(size, size), ori_shape=(size, size), scale_factor=(1.0, 1.0), img_id=index)
        sample = DetDataSample(metainfo={**shape, 'pad_shape': (size, size), 'batch_input_shape': (size, size)})
        sample.gt_instances = InstanceData(bboxes=boxes, labels=torch.randint(0, 3, (2,)))
        result.append(sample)
    return result


def train_detector(detector: torch.nn.Module, size: int, steps: int) -> None:
    detector.train()
    optimizer = torch.optim.SGD(detector.parameters(), lr=0.01, momentum=0.9)
    for _ in range(steps):
        losses = detector(torch.randn(2, 3, size, size), samples(2, size), mode='loss')
        optimizer.zero_grad()
        detector.parse_losses(losses)[0].backward()
        optimizer.step()


@pytest.fixture(scope='module')
def resnet50(tmp_path_factory):
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp('plain') / 'resnet50.pth'
    network = torchvision.models.resnet50()
    torch.save(network.state_dict(), path)
    return path


EAN_R50 = ROOT / 'configs/faster_rcnn_ean_r50_coco.py'


@pytest.mark.parametrize(
    'make, size, steps', [(small_ssdlite, 96, 3), (faster_rcnn, 64, 2)], ids=['SSDLite', 'Faster R-CNN']
)
def test_whole_detectors_find_the_same_boxes(make, size, steps, tmp_path):
    names = ('MobileNeXt', 'EANMobileNeXt') if make is small_ssdlite else ('ResNet', 'EANResNet')
    plain_config, config = make(names[0]), make(names[1])
    plain = MODELS.build(plain_config.model)
    plain.init_weights()
    train_detector(plain, size, steps)
    meta = dict(dataset_meta=dict(classes=CLASSES))
    torch.save(dict(meta=meta, state_dict=plain.state_dict(), optimizer={}), tmp_path / 'plain.pth')

    report = convert_checkpoint(str(tmp_path / 'plain.pth'), str(tmp_path / 'ean.pth'), config)
    assert report.match.source == "keys as the model's"
    assert set(report.scaled.values()) == {2}
    assert report.match.missing == report.gates and not report.match.skipped
    detector = MODELS.build(config.model)
    checkpoint = load_checkpoint(detector, str(tmp_path / 'ean.pth'), strict=True)
    assert checkpoint['meta']['dataset_meta']['classes'] == CLASSES

    image = torch.randn(2, 3, size, size)
    networks = (plain.eval(), detector.eval())
    with torch.no_grad():
        expected, found = (network(image, samples(2, size), mode='predict') for network in networks)
    for wanted, got in zip(expected, found):
        wanted, got = wanted.pred_instances, got.pred_instances
        assert len(wanted) > 5
        torch.testing.assert_close(got.scores, wanted.scores, rtol=1e-5, atol=1e-6)
        # scores that are equal to rounding may come in another order
        rows = [torch.cat([d.bboxes / size, d.scores[:, None], d.labels[:, None]], 1) for d in (wanted, got)]
        distances = torch.cdist(*rows, p=torch.inf)
        assert len(wanted) == len(got) and distances.min(0)[0].max() < 2e-5 and distances.min(1)[0].max() < 2e-5

    # mmcv's NMS takes no float64, so there it is what the heads get that is compared
    expected, found = (copy.deepcopy(network).double().extract_feat(image.double()) for network in networks)
    for wanted, got in zip(expected, found):
        torch.testing.assert_close(got, wanted, rtol=1e-10, atol=1e-10 * wanted.abs().max().item())

    targets, losses = samples(2, size), []
    for network in networks:
        network.train()
        torch.manual_seed(1)  # RPN and RoI head sample their boxes
        losses.append(network.parse_losses(network(image, targets, mode='loss'))[0])
    torch.testing.assert_close(losses[1], losses[0], rtol=1e-4, atol=0)


def test_the_detector_itself_may_start_so(tmp_path):
    plain = MODELS.build(small_ssdlite('MobileNeXt').model)
    plain.init_weights()
    train_detector(plain, 96, 2)
    torch.save(dict(state_dict=plain.state_dict()), tmp_path / 'plain.pth')
    config = small_ssdlite('EANMobileNeXt', init_cfg=dict(type='WarmStart', checkpoint=str(tmp_path / 'plain.pth')))
    detector = MODELS.build(config.model)
    detector.init_weights()
    image = torch.randn(1, 3, 96, 96)
    with torch.no_grad():
        expected, outputs = (net.eval()(image, mode='tensor') for net in (plain, detector))
    for output, wanted in zip([*outputs[0], *outputs[1]], [*expected[0], *expected[1]]):
        torch.testing.assert_close(output, wanted, rtol=1e-5, atol=1e-6)


def test_a_detector_for_other_classes_keeps_all_but_its_last_layers(tmp_path):
    plain = MODELS.build(small_ssdlite('MobileNeXt').model)
    torch.save(plain.state_dict(), tmp_path / 'plain.pth')
    config = small_ssdlite('EANMobileNeXt')
    config.model.bbox_head.num_classes = 3
    report = convert_checkpoint(str(tmp_path / 'plain.pth'), str(tmp_path / 'ean.pth'), config)
    assert set(report.match.skipped.values()) == {'another shape in the model'}
    assert all(key.startswith('bbox_head.cls_convs') for key in report.match.skipped)
    assert len(report.match.skipped) == 12  # weight and bias on six levels


def test_a_backbone_out_of_a_detector(tmp_path):
    plain = MODELS.build(small_ssdlite('MobileNeXt').model)
    train_a_little(plain.backbone)
    torch.save(dict(state_dict=plain.state_dict()), tmp_path / 'detector.pth')
    config = dict(small_ssdlite('EANMobileNeXt').model.backbone)
    config['init_cfg'] = dict(type='WarmStart', checkpoint=str(tmp_path / 'detector.pth'))
    backbone = MODELS.build(config)
    backbone.init_weights()
    assert_same_outputs(backbone, plain.backbone)


def test_file_for_a_backbone_loads_as_pretrained(resnet50, tmp_path):
    path = str(tmp_path / 'new folder' / 'ean.pth')
    report = convert_checkpoint(str(resnet50), path, Config.fromfile(EAN_R50))
    assert len(report.scaled) == 16
    checkpoint = torch.load(path, weights_only=True)
    assert checkpoint['meta']['warm_start']['scaled'] == report.scaled
    networks = []
    for init in (dict(type='Pretrained', checkpoint=path), dict(type='WarmStart', checkpoint=str(resnet50))):
        networks.append(MODELS.build(dict(type='EANResNet', depth=50, init_cfg=init)))
        networks[-1].init_weights()
    assert checkpoint['state_dict'].keys() == networks[0].state_dict().keys()
    for key, value in networks[1].state_dict().items():
        assert torch.equal(networks[0].state_dict()[key], value), key


# The model may be a backbone alone.
EAN_R18 = Config(dict(model=dict(type='EANResNet', depth=18)))


@pytest.fixture(scope='module')
def resnet18(tmp_path_factory):
    path = tmp_path_factory.mktemp('plain') / 'resnet18.pth'
    torch.save(torchvision.models.resnet18().state_dict(), path)
    return path


def test_dry_run_writes_nothing(resnet18, tmp_path):
    report = convert_checkpoint(str(resnet18), str(tmp_path / 'a' / 'x.pth'), EAN_R18, dry_run=True)
    assert len(report.scaled) == 8
    assert not any(tmp_path.iterdir())


def test_what_exists_is_not_overwritten(resnet18, tmp_path):
    path = tmp_path / 'mine.pth'
    path.write_text('precious')
    with pytest.raises(InputError, match='exists; give --force'):
        convert_checkpoint(str(resnet18), str(path), EAN_R18)
    assert path.read_text() == 'precious'
    convert_checkpoint(str(resnet18), str(path), EAN_R18, force=True)
    assert 'state_dict' in torch.load(path)
    with pytest.raises(InputError, match='is a folder'):
        convert_checkpoint(str(resnet18), str(tmp_path), EAN_R18, force=True)


def test_a_write_that_fails_leaves_nothing(resnet18, tmp_path, monkeypatch):
    def fail(checkpoint, file):
        file.write(b'half')
        raise OSError('No space left on device')

    path = tmp_path / 'ean.pth'
    path.write_text('precious')
    monkeypatch.setattr('ean_mmdet.checkpoint.convert.torch.save', fail)
    with pytest.raises(InputError, match='No space left on device'):
        convert_checkpoint(str(resnet18), str(path), EAN_R18, force=True)
    assert [file.name for file in tmp_path.iterdir()] == ['ean.pth']
    assert path.read_text() == 'precious'


def bad_source(kind: str, resnet18, folder) -> str:
    path = folder / f'{kind}.pth'
    if kind == 'depth':
        torch.save(torchvision.models.resnet34().state_dict(), path)
    elif kind == 'block':
        torch.save(torchvision.models.resnet50().state_dict(), path)
    elif kind == 'truncated':
        path.write_bytes(resnet18.read_bytes()[:100_000])
    elif kind == 'foreign':
        torch.save(torchvision.models.squeezenet1_1().state_dict(), path)
    elif kind == 'converted':
        convert_checkpoint(str(resnet18), str(path), EAN_R18)
    return str(path)


@pytest.mark.parametrize(
    'kind, message',
    [
        ('depth', r'another architecture than the model \(another depth.*unexpected keys \(layer1\.2\.'),
        ('block', r'another architecture than the model \(another depth.*another shape'),
        ('truncated', r'truncated or no PyTorch checkpoint'),
        ('foreign', r'no key in common with the model'),
        ('converted', r'already has attention weights \(8 modules\)'),
        ('absent', r'no checkpoint at'),
    ],
)
def test_bad_input_is_refused_and_nothing_written(kind, message, resnet18, tmp_path):
    source = bad_source(kind, resnet18, tmp_path)
    (tmp_path / 'out').mkdir()
    with pytest.raises(InputError, match=message):
        convert_checkpoint(source, str(tmp_path / 'out' / 'ean.pth'), EAN_R18)
    assert not any((tmp_path / 'out').iterdir())


def test_configs_with_nothing_to_convert(resnet18, tmp_path):
    plain = Config(dict(model=dict(type='ResNet', depth=18)))
    with pytest.raises(InputError, match=r'ResNet has no attention that .* lacks'):
        convert_checkpoint(str(resnet18), str(tmp_path / 'x.pth'), plain)
    with pytest.raises(InputError, match='config has no model'):
        convert_checkpoint(str(resnet18), str(tmp_path / 'x.pth'), Config(dict(train_cfg={})))
