import os
import pickle
import warnings

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer
from mmengine.runner.checkpoint import CheckpointLoader, load_checkpoint
from torch import nn

from ean_mmdet.errors import InputError


def as_stock_mmengine_saves(path, **extra):
    """What mmengine 0.10's runner writes: weights, and its history as pickled objects."""
    buffer = HistoryBuffer([0.5, 0.25], [1, 2], max_length=1000)
    hub = dict(
        log_scalars={'train/loss': buffer}, runtime_info={'iter': 7}, resumed_keys={'train/loss': True, 'iter': True}
    )
    checkpoint = dict(
        meta=dict(iter=7, best=np.float64(0.5), palette=np.arange(6, dtype=np.uint8)),
        state_dict=nn.Linear(3, 2).state_dict(),
        message_hub=hub,
        **extra,
    )
    torch.save(checkpoint, path)
    return checkpoint


def test_stock_checkpoints_load_with_safe_loading_on(tmp_path):
    saved = as_stock_mmengine_saves(tmp_path / 'stock.pth')
    with pytest.raises(pickle.UnpicklingError, match=r'HistoryBuffer|getattr|numpy'):
        torch.load(tmp_path / 'stock.pth')  # so the safe mode is on, and this is no test of nothing
    loaded = CheckpointLoader.load_checkpoint(str(tmp_path / 'stock.pth'), map_location='cpu')
    buffer = loaded['message_hub']['log_scalars']['train/loss']
    assert isinstance(buffer, HistoryBuffer)
    assert buffer.mean() == pytest.approx((0.5 + 0.25) / 3)
    assert buffer.max_length == 1000
    assert loaded['meta']['best'] == 0.5
    assert loaded['meta']['palette'].tolist() == [0, 1, 2, 3, 4, 5]
    for key, value in saved['state_dict'].items():
        torch.testing.assert_close(loaded['state_dict'][key], value)


def test_history_survives_being_saved_plain(tmp_path):
    from ean_mmdet.checkpoint.safe_load import history_to_plain

    checkpoint = dict(message_hub=dict(log_scalars={'train/loss': history_to_plain(HistoryBuffer([1.0, 3.0], [1, 1]))}))
    torch.save(checkpoint, tmp_path / 'plain.pth')
    assert torch.load(tmp_path / 'plain.pth', weights_only=True)  # PyTorch alone takes it
    loaded = CheckpointLoader.load_checkpoint(str(tmp_path / 'plain.pth'), map_location='cpu')
    assert loaded['message_hub']['log_scalars']['train/loss'].mean() == 2


class _TouchesAFile:
    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return open, (self.path, 'w')


class _UsesGetattr:
    """Reaches a function of a harmless module by ``getattr``, as hostile pickles do."""

    def __reduce__(self):
        return getattr, (np.ndarray, 'tofile')


@pytest.mark.parametrize('place', ['state_dict', 'message_hub', 'optimizer'])
def test_hostile_checkpoints_are_refused(tmp_path, place):
    target = tmp_path / 'touched'
    file = tmp_path / 'hostile.pth'
    torch.save({'state_dict': {}, place: {'x': _TouchesAFile(target)}}, file)
    with pytest.raises(InputError, match=r'hostile\.pth.*refused'):
        CheckpointLoader.load_checkpoint(str(file), map_location='cpu')
    assert not target.exists()
    # the file is truly hostile: without the safe mode it does what it wants
    torch.load(file, weights_only=False)
    assert target.exists()


def test_getattr_reaches_nothing(tmp_path):
    torch.save({'state_dict': {'x': _UsesGetattr()}}, tmp_path / 'getattr.pth')
    with pytest.raises(InputError, match='refused'):
        CheckpointLoader.load_checkpoint(str(tmp_path / 'getattr.pth'), map_location='cpu')


def test_safe_names_are_bound_for_one_load_only(tmp_path):
    as_stock_mmengine_saves(tmp_path / 'stock.pth')
    before = torch.serialization.get_safe_globals()
    CheckpointLoader.load_checkpoint(str(tmp_path / 'stock.pth'), map_location='cpu')
    assert set(torch.serialization.get_safe_globals()) == set(before)
    assert not any(isinstance(name, tuple) and 'getattr' in name[1] for name in before)


def test_https_and_named_checkpoints_load_safely_too(tmp_path, monkeypatch):
    """From the hub's cache, as nothing can be downloaded in a test."""
    target = tmp_path / 'touched'
    monkeypatch.setenv('TORCH_HOME', str(tmp_path))
    cache = tmp_path / 'hub' / 'checkpoints'
    cache.mkdir(parents=True)
    torch.save({'x': _TouchesAFile(target)}, cache / 'hostile.pth')
    torch.save({'weight': torch.ones(2)}, cache / 'resnet50-0676ba61.pth')
    with pytest.raises(InputError, match='refused'):
        CheckpointLoader.load_checkpoint('https://example.invalid/hostile.pth')
    assert not target.exists()
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        loaded = CheckpointLoader.load_checkpoint('torchvision://resnet50')
    assert loaded['weight'].tolist() == [1, 1]


def test_missing_truncated_and_foreign_files_are_named(tmp_path):
    as_stock_mmengine_saves(tmp_path / 'epoch_12.pth')
    with pytest.raises(InputError, match=r'no checkpoint at .*epoch_2\.pth.*epoch_12\.pth'):
        load_checkpoint(nn.Linear(3, 2), str(tmp_path / 'epoch_2.pth'))
    whole = (tmp_path / 'epoch_12.pth').read_bytes()
    (tmp_path / 'half.pth').write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=r'half\.pth \(.* bytes\) is truncated'):
        load_checkpoint(nn.Linear(3, 2), str(tmp_path / 'half.pth'))
    for content in (b'', b'<html>404 not found</html>'):
        (tmp_path / 'page.pth').write_bytes(content)
        with pytest.raises(InputError, match=r'page\.pth'):
            load_checkpoint(nn.Linear(3, 2), str(tmp_path / 'page.pth'))
    assert sorted(os.listdir(tmp_path)) == ['epoch_12.pth', 'half.pth', 'page.pth']


def test_no_network_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv('TORCH_HOME', str(tmp_path))
    # nothing listens on this port of this machine
    with pytest.raises(InputError, match=r'could not be downloaded.*Download it elsewhere'):
        CheckpointLoader.load_checkpoint('http://127.0.0.1:9/weights.pth')


def test_unknown_names_are_named():
    with pytest.raises(InputError, match=r"no checkpoint named 'resnet500'; near names: .*resnet50"):
        CheckpointLoader.load_checkpoint('torchvision://resnet500')
