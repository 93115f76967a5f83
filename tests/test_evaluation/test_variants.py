import pytest
import torch
from mmengine.config import Config

from ean_mmdet.attention import EAN, SE
from ean_mmdet.engine import build_model
from ean_mmdet.errors import InputError
from ean_mmdet.evaluation import ConstantMask
from ean_mmdet.evaluation.variants import make_variants, parameter_count, parse_spec, without_attention
from tests.conftest import ROOT

YOLOX = ROOT / 'configs/comparison/yolox_nano_bccd.py'
CIFAR = ROOT / 'configs/comparison/mobilenext_cifar10.py'


def modules(config, kind):
    return [module for module in build_model(config).modules() if isinstance(module, kind)]


@pytest.mark.parametrize(
    'text,name,kind,settings',
    [
        ('none', 'none', 'none', {}),
        ('EAN', 'EAN', 'EAN', {}),
        ("EAN(groups=8, weight_norm='rms')", 'EAN_groups8_weight_normrms', 'EAN', dict(groups=8, weight_norm='rms')),
        ("found=SE(connections=[0, 1], shared='stage')", 'found', 'SE', dict(connections=[0, 1], shared='stage')),
        ('theirs=a/b.py', 'theirs', 'a/b.py', {}),
        ('a/b.py', 'b', 'a/b.py', {}),
    ],
)
def test_specs(text, name, kind, settings):
    spec = parse_spec(text)
    assert (spec.name, spec.kind, spec.settings) == (name, kind, settings)


@pytest.mark.parametrize('text', ['EAN(8)', 'EAN(groups=', 'EAN groups', 'EAN(groups=print())'])
def test_specs_that_are_none(text):
    with pytest.raises(InputError, match='cannot be read'):
        parse_spec(text)


def test_a_detector():
    config = Config.fromfile(YOLOX)
    made = make_variants(config, list(map(parse_spec, ('none', 'EAN', 'SE'))), ['constant', 'half', 'wider'])
    by_name = {variant.name: variant.config for variant in made}
    assert list(by_name) == ['none', 'EAN', 'SE', 'constant', 'half', 'wider-EAN', 'wider-SE']
    assert not modules(by_name['none'], (EAN, SE, ConstantMask))
    eans, constants = modules(by_name['EAN'], EAN), modules(by_name['constant'], ConstantMask)
    assert {ean.groups for ean in eans} == {8}  # 64 doesn't divide its narrowest layers
    assert len(constants) == len(eans) and [c.in_channels for c in constants] == [e.in_channels for e in eans]
    plain, se, wide = (parameter_count(by_name[name]) for name in ('none', 'SE', 'wider-SE'))
    assert plain < wide and abs(wide - se) < 0.1 * plain
    x = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        build_model(by_name['wider-SE']).eval()(x, mode='tensor')


def test_constant_masks():
    x = torch.rand(2, 4, 3, 3)
    half = ConstantMask(4, trained=False)
    assert torch.equal(half(x), x / 2) and not list(half.parameters())
    trained = ConstantMask(4)
    assert torch.equal(trained(x), x / 2)
    torch.nn.init.normal_(trained.logits)
    torch.testing.assert_close(trained(x), x * trained.logits.sigmoid().view(1, 4, 1, 1))


def test_a_classifier_whose_config_has_attention_already():
    plain, ean = Config.fromfile(CIFAR), Config.fromfile(CIFAR.with_name('ean_mobilenext_cifar10.py'))
    assert parameter_count(without_attention(ean)) == parameter_count(plain)
    made = make_variants(ean, list(map(parse_spec, ('none', 'EAN', 'SE'))))
    assert [parameter_count(variant.config) for variant in made] == [2267226, 2270866, 2923569]


def test_what_cannot_be_made():
    config = Config.fromfile(CIFAR)
    with pytest.raises(InputError, match=r'--attention NoSuch: .*NoSuch'):
        make_variants(config, [parse_spec('NoSuch')])
    with pytest.raises(InputError, match=r'--attention EAN_groups7: .*divisible'):
        make_variants(config, [parse_spec('EAN(groups=7)')])
    with pytest.raises(InputError, match='two networks are called SE'):
        make_variants(config, list(map(parse_spec, ('SE', 'SE'))))
    with pytest.raises(InputError, match='--controls half need a module'):
        make_variants(config, [parse_spec('none')], ['half'])
