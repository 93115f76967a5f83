"""Every scheme that mmengine knows, with downloads and stores that are local files."""

import json

import pytest
import torch
from mmengine.runner.checkpoint import CheckpointLoader, load_checkpoint
from torch import nn

from ean_mmdet.checkpoint import loaders
from ean_mmdet.errors import InputError


class Hostile:
    """Writes a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), 'w'))


@pytest.fixture
def saved(tmp_path):
    def save(content):
        torch.save(content, tmp_path / 'saved.pth')
        return tmp_path / 'saved.pth'

    return save


@pytest.fixture
def downloads(monkeypatch):
    """What was asked for, each answered with a file through torch's own loading."""
    asked = []

    def serve(path):
        def load(url, model_dir=None, map_location=None, progress=True, **kwargs):
            asked.append(url)
            assert kwargs['weights_only'] is True
            return torch.load(path, map_location=map_location, weights_only=kwargs['weights_only'])

        monkeypatch.setattr(torch.hub, 'load_state_dict_from_url', load)
        return asked

    return serve


WEIGHTS = {'backbone.weight': torch.ones(2), 'head.fc.weight': torch.ones(3)}


def load(filename):
    return CheckpointLoader.load_checkpoint(filename, map_location='cpu')


def test_all_of_mmengines_schemes_are_ours():
    assert {loader.__module__ for loader in CheckpointLoader._schemes.values()} == {
        'ean_mmdet.checkpoint.loaders',
        'ean_mmdet.checkpoint.safe_load',
    }


def test_mmcls_gives_the_backbone(saved, downloads):
    asked = downloads(saved(dict(state_dict=WEIGHTS)))
    assert load('mmcls://vgg11')['state_dict'].keys() == {'weight'}
    assert asked[0].startswith('https://') and 'vgg11' in asked[0]
    with pytest.raises(InputError, match=r"mmcls has no checkpoint named 'vgg11x'; near names: vgg11"):
        load('mmcls://vgg11x')


def test_deprecated_names_of_open_mmlab(saved, downloads):
    asked = downloads(saved(WEIGHTS))
    assert load('open-mmlab://resnet50_caffe').keys() == WEIGHTS.keys()
    assert load('open-mmlab://detectron/resnet50_caffe').keys() == WEIGHTS.keys()
    assert asked[0] == asked[1]


def test_paths_in_the_users_list(saved, monkeypatch, tmp_path):
    saved(WEIGHTS)
    (tmp_path / 'open_mmlab.json').write_text(json.dumps({'mine': 'saved.pth'}))
    monkeypatch.setenv('MMENGINE_HOME', str(tmp_path))
    assert load('open-mmlab://mine').keys() == WEIGHTS.keys()


@pytest.mark.parametrize('name', ['s3://bucket/x.pth', 'cluster:s3://bucket/x.pth', 'petrel://bucket/x.pth'])
def test_stores(name, saved, monkeypatch):
    backend = type('Backend', (), dict(get=lambda self, path: saved(WEIGHTS).read_bytes()))()
    monkeypatch.setattr(loaders, 'get_file_backend', lambda *args, **kwargs: backend)
    assert load(name).keys() == WEIGHTS.keys()


def test_no_scheme_runs_code(saved, downloads, monkeypatch, tmp_path):
    """Even where PyTorch's own default is to run it, as before 2.6."""
    path = saved(dict(state_dict=WEIGHTS, extra=Hostile(tmp_path / 'ran')))
    monkeypatch.setenv('TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD', '0')
    downloads(path)
    backend = type('Backend', (), dict(get=lambda self, name: path.read_bytes()))()
    monkeypatch.setattr(loaders, 'get_file_backend', lambda *args, **kwargs: backend)
    original = torch.load
    monkeypatch.setattr(
        torch, 'load', lambda *args, weights_only=False, **kwargs: original(*args, weights_only=weights_only, **kwargs)
    )
    for name in (str(path), 'https://a/b.pth', 'torchvision://resnet50', 'open-mmlab://resnet50_caffe', 'mmcls://vgg11',
                 's3://bucket/x.pth'):  # fmt: skip
        with pytest.raises(InputError, match='holds more than weights, which was refused'):
            load(name)
    assert not (tmp_path / 'ran').exists()
    with pytest.raises(InputError, match='pavi:// is not loaded'):
        load('pavi://x')


def test_a_model_loads_by_them(saved, downloads):
    source, model = nn.Linear(2, 2), nn.Linear(2, 2)
    downloads(saved(source.state_dict()))
    load_checkpoint(model, 'https://a/b.pth', strict=True)
    assert torch.equal(model.weight, source.weight)
