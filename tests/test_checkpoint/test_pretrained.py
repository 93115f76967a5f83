"""init_cfg=dict(type='Pretrained'), built by name as a config does."""

import pytest
import torch
from mmengine.registry import MODELS

from ean_mmdet.errors import InputError

SMALL = dict(type='MobileNeXt', widen_factor=0.25)


@pytest.fixture
def checkpoint(tmp_path):
    backbone = MODELS.build(SMALL)
    for parameter in backbone.parameters():
        torch.nn.init.normal_(parameter)
    weights = {f'backbone.{key}': value for key, value in backbone.state_dict().items()}
    torch.save(dict(state_dict=weights), tmp_path / 'whole.pth')
    return tmp_path / 'whole.pth', backbone


def build(path, **arguments):
    backbone = MODELS.build(dict(SMALL, init_cfg=dict(type='Pretrained', checkpoint=str(path), **arguments)))
    backbone.init_weights()
    return backbone


def test_loads_what_mmengines_loads(checkpoint):
    path, original = checkpoint
    for loaded in (build(path, prefix='backbone.'), build(path)):
        same(loaded, original)


def same(loaded, original):
    for mine, theirs in zip(loaded.state_dict().values(), original.state_dict().values()):
        torch.testing.assert_close(mine, theirs, rtol=0, atol=0)


def test_a_file_without_a_usable_weight_is_refused(checkpoint, tmp_path):
    path, _ = checkpoint
    with pytest.raises(InputError, match=r"has no key that starts with 'neck\.'; its keys start with backbone\."):
        build(path, prefix='neck')
    other = MODELS.build(dict(SMALL, widen_factor=0.5))
    torch.save(other.state_dict(), tmp_path / 'wide.pth')
    with pytest.raises(InputError, match='another width'):
        build(tmp_path / 'wide.pth')
    torch.save(torch.nn.Linear(2, 3).state_dict(), tmp_path / 'linear.pth')
    with pytest.raises(InputError, match=r'has no weight in common with this MobileNeXt'):
        build(tmp_path / 'linear.pth')
