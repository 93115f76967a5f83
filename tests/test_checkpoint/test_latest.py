"""Which checkpoint --resume goes on from."""

import os
import zipfile

import pytest
import torch

from ean_mmdet.checkpoint import latest_checkpoint, load_local
from ean_mmdet.errors import InputError


@pytest.fixture
def run(tmp_path):
    folder = tmp_path / 'run'
    folder.mkdir()
    for step in (3, 6):
        path = folder / f'iter_{step}.pth'
        torch.save(dict(state_dict=dict(weight=torch.full((500,), float(step))), optimizer={}, meta={}), path)
        os.utime(path, (step, step))
    (folder / 'last_checkpoint').write_text(str(folder / 'iter_6.pth'))
    return folder


def flip(path, position=None):
    content = bytearray(path.read_bytes())
    position = position or content.index(torch.tensor(6.0).numpy().tobytes() * 4)
    content[position] ^= 0xFF
    path.write_bytes(content)


def test_the_one_that_is_named(run):
    assert latest_checkpoint(run) == str(run / 'iter_6.pth')
    (run / 'last_checkpoint').write_text(str(run / 'iter_3.pth'))
    assert latest_checkpoint(run) == str(run / 'iter_3.pth')


@pytest.mark.parametrize('pointer', ['', '\0\0\0', '/nowhere/iter_6.p', '/elsewhere/run/iter_6.pth', None])
def test_a_pointer_that_is_empty_cut_or_of_a_moved_folder(run, pointer):
    if pointer is None:
        (run / 'last_checkpoint').unlink()
    else:
        (run / 'last_checkpoint').write_text(pointer)
    assert latest_checkpoint(run) == str(run / 'iter_6.pth')


@pytest.mark.parametrize('damage', ['cut', 'flipped', 'gone', 'empty', 'weights alone'])
def test_the_newest_that_is_whole(run, damage):
    newest = run / 'iter_6.pth'
    if damage == 'cut':
        newest.write_bytes(newest.read_bytes()[:-300])
    elif damage == 'flipped':
        flip(newest)
    elif damage == 'gone':
        newest.unlink()
    elif damage == 'empty':
        newest.write_bytes(b'')
    else:
        torch.save(dict(state_dict={}), newest)
    assert latest_checkpoint(run) == str(run / 'iter_3.pth')


def test_none_that_is_whole_and_none_at_all(run, tmp_path):
    for path in run.glob('*.pth'):
        path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(InputError, match=r'none of the 2 checkpoints in .* the newest: .*iter_6\.pth .*truncated'):
        latest_checkpoint(run)
    assert latest_checkpoint(tmp_path / 'nothing') is None


def test_flipped_bytes_are_seen_wherever_a_checkpoint_is_loaded(run):
    flip(run / 'iter_6.pth')
    with pytest.raises(InputError, match=r'iter_6\.pth is damaged: the checksum of its .*data/0 is wrong'):
        load_local(run / 'iter_6.pth')


def test_an_archive_that_would_unpack_without_a_bound(tmp_path):
    bomb = tmp_path / 'bomb.pth'
    with zipfile.ZipFile(bomb, 'w', zipfile.ZIP_DEFLATED) as archive:
        archive.writestr('archive/data.pkl', b'\0' * 50_000_000)
    with pytest.raises(InputError, match=r'is compressed and would unpack to 50,000,000 bytes'):
        load_local(bomb)
