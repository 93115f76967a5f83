"""The module and the config of docs/own_module.md, as files of a user's own."""

import re
import sys

import pytest
import torch
from mmengine.registry import MODELS

import ean_mmdet
from ean_mmdet.analysis import ComplexityCounter, stage_table
from ean_mmdet.engine import build_model, load_config
from tests.conftest import ROOT

pytestmark = pytest.mark.slow

PAGE = (ROOT / 'docs/own_module.md').read_text()
BLOCK = r'```python\n# {}\.py\n(.*?)```'
MODULE, CONFIG = (re.search(BLOCK.format(name), PAGE, re.DOTALL)[1] for name in ('my_gate', 'my_config'))


@pytest.fixture(scope='module')
def files(tmp_path_factory):
    """Folder with the page's files, the config's weights being a file."""
    folder = tmp_path_factory.mktemp('own')
    (folder / 'my_gate.py').write_text(MODULE)
    torch.manual_seed(0)
    plain = MODELS.build(dict(type='mmdet.ResNet', depth=50))
    torch.save(plain.state_dict(), folder / 'plain.pth')
    (folder / 'my_config.py').write_text(CONFIG.replace('torchvision://resnet50', str(folder / 'plain.pth')))
    yield folder
    sys.modules.pop('my_gate', None)
    MODELS.module_dict.pop('MyGate', None)


def test_a_module_that_is_not_found_is_told(files, run_tool):
    result = run_tool('complexity.py', files / 'my_config.py', check=False)
    assert result.returncode == 2 and 'PYTHONPATH=FOLDER python tools/' in result.stderr
    assert "is no valid config: ModuleNotFoundError: No module named 'my_gate'" in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_its_cost_is_counted(files, run_tool):
    result = run_tool('complexity.py', files / 'my_config.py', '--shape', '64', '64', PYTHONPATH=str(files))
    assert 'MyGate × 16: the attention adds' in result.stdout and 'No rule counts' not in result.stdout


@pytest.fixture
def config(files, monkeypatch):
    monkeypatch.syspath_prepend(files)
    return load_config(str(files / 'my_config.py'))


def test_pretrained_weights_keep_what_the_network_computes(config, files):
    plain = MODELS.build(dict(type='mmdet.ResNet', depth=50))
    plain.load_state_dict(torch.load(files / 'plain.pth'))
    plain.eval()
    model = build_model(config).backbone
    model.init_weights()
    image = torch.randn(1, 3, 64, 64)
    model.eval()
    with torch.no_grad():
        for actual, expected in zip(model(image), plain(image)):
            torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-4 * expected.abs().max())


def test_attach_takes_it(config):
    network = MODELS.build(dict(type='mmdet.ResNet', depth=18))
    assert ean_mmdet.attach(network, MODELS.get('MyGate'), ratio=4).kept


def own_gate(lines):
    """The page's module with some lines of it replaced, registered as ``OwnGate``."""
    text = MODULE.replace('MyGate', 'OwnGate').replace('register_module()', 'register_module(force=True)')
    for old, new in lines.items():
        assert old in text
        text = text.replace(old, new)
    exec(text, {})
    return dict(type='OwnGate')


def warm_start(attention, files):
    init_cfg = dict(type='WarmStart', checkpoint=str(files / 'plain.pth'))
    plain = dict(type='mmdet.ResNet', depth=50, init_cfg=init_cfg)
    MODELS.build(dict(type='WithAttention', backbone=plain, attention=attention)).init_weights()


@pytest.mark.parametrize(
    ('lines', 'said'),
    [
        ({'(self.excite,)': "('excite',)"}, r"OwnGate\.gate_layers must be a tuple of layers .* got \('excite',\)"),
        ({'(self.excite,)': 'self.excite'}, r'OwnGate\.gate_layers must be a tuple of layers'),
        ({'(self.excite,)': '(nn.Conv2d(1, 1, 1),)'}, r'gate_layers must be a tuple of layers of the module itself'),
        ({'def gate_layers': 'def layers'}, r'If OwnGate is an attention module of your own, give its class gate_lay'),
        ({'in_channels, ratio=4': 'channels, ratio=4', '= in_channels': '= channels', '(in_channels': '(channels',
          ', in_channels': ', channels'}, r'OwnGate takes no in_channels'),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_module_is_told(config, files, lines, said):
    with pytest.raises(ValueError, match=said):
        warm_start(own_gate(lines), files)


def test_what_has_no_rule_is_told(config):
    attention = own_gate({'def count_operations': 'def operations', 'def gate_layers': 'def layers'})
    config.model.backbone.attention = attention
    table = stage_table(config, 'own', (64, 64))
    assert any('OwnGate × 16: the attention adds' in note for note in table.notes)
    assert any('No rule counts the operations of OwnGate' in note for note in table.notes)
    counter = ComplexityCounter(MODELS.build(dict(attention, in_channels=16)), lambda m: m(torch.zeros(1, 16, 6, 5)))
    assert counter.count().operations == 2 * 16 * 4  # its two convolutions
