"""The hook in a real runner whose disk fails, and whose process is killed."""

import os
import signal
import subprocess
import sys
import time

import pytest
import torch
from mmengine.hooks import CheckpointHook

from ean_mmdet.errors import InputError
from tests.conftest import ROOT
from tests.test_hooks.test_safe_checkpoint_hook import make_runner


def run_with(work_dir, iterations=6, **options):
    runner = make_runner(work_dir, iterations)
    runner._hooks[:] = [hook for hook in runner.hooks if not isinstance(hook, CheckpointHook)]
    hook = dict(type='AtomicCheckpointHook', by_epoch=False, interval=2, max_keep_ckpts=1, priority='VERY_LOW')
    runner.register_hook(dict(hook, **options))
    return runner


def names(folder):
    return sorted(path.name for path in folder.iterdir() if path.suffix == '.pth' or 'partial' in path.name)


def test_keeps_as_many_as_it_is_told_and_names_the_last(tmp_path):
    run_with(tmp_path / 'run').train()
    assert names(tmp_path / 'run') == ['iter_6.pth']
    assert (tmp_path / 'run/last_checkpoint').read_text() == str(tmp_path / 'run/iter_6.pth')
    run_with(tmp_path / 'two', max_keep_ckpts=2).train()
    assert names(tmp_path / 'two') == ['iter_4.pth', 'iter_6.pth']
    checkpoint = torch.load(tmp_path / 'two/iter_6.pth', weights_only=True)
    assert checkpoint['message_hub']['runtime_info']['keep_ckpt_ids'] == [4, 6]


def full_disk(monkeypatch, from_call):
    """From the n-th on, a file is written by half, and then the disk is full."""
    from mmengine.fileio.backends import LocalBackend

    calls, original = [], LocalBackend.put

    def put(self, content, path):
        calls.append(path)
        if len(calls) >= from_call:
            original(self, bytes(content)[: len(content) // 2], path)
            raise OSError(28, 'No space left on device')
        original(self, content, path)

    monkeypatch.setattr(LocalBackend, 'put', put)


def test_a_full_disk_stops_the_run_with_a_line_and_the_older_checkpoint(monkeypatch, tmp_path):
    full_disk(monkeypatch, from_call=2)
    with pytest.raises(InputError, match=r'No space left on device\. The older ones are intact.*on_error'):
        run_with(tmp_path / 'run').train()
    assert names(tmp_path / 'run') == ['iter_2.pth']
    assert torch.load(tmp_path / 'run/iter_2.pth', weights_only=True)['meta']['iter'] == 2
    assert (tmp_path / 'run/last_checkpoint').read_text() == str(tmp_path / 'run/iter_2.pth')


def test_or_goes_on(monkeypatch, tmp_path):
    full_disk(monkeypatch, from_call=2)
    runner = run_with(tmp_path / 'run', on_error='continue')
    runner.train()
    assert runner.iter == 6 and names(tmp_path / 'run') == ['iter_2.pth']


def test_an_unknown_choice():
    from ean_mmdet.hooks import AtomicCheckpointHook

    with pytest.raises(ValueError, match="on_error must be one of stop, continue, got 'ignore'"):
        AtomicCheckpointHook(on_error='ignore')


SLOW = """
import os, sys, time
from pathlib import Path
import torch
from mmengine.fileio.backends import LocalBackend
from tests.test_hooks.test_atomic_checkpoint_hook import run_with
import ean_mmdet
original = LocalBackend.put
def put(self, content, path):
    '''Half of it, and then, from the second on, the kill.'''
    if Path(sys.argv[1], 'iter_2.pth').exists():
        Path(path).write_bytes(bytes(content)[: len(content) // 2])
        print('writing', flush=True)
        time.sleep(60)
    original(self, content, path)
LocalBackend.put = put
run_with(Path(sys.argv[1])).train()
"""


@pytest.mark.slow
def test_killed_while_a_checkpoint_is_written(tmp_path):
    """With max_keep_ckpts=1 the older one is still there, and is what last_checkpoint names."""
    process = subprocess.Popen(
        [sys.executable, '-W', 'ignore', '-c', SLOW, str(tmp_path / 'run')],
        cwd=ROOT, stdout=subprocess.PIPE, text=True, env={**os.environ, 'PYTHONPATH': str(ROOT)},
    )  # fmt: skip
    deadline = time.monotonic() + 120
    for line in process.stdout:
        if 'writing' in line or time.monotonic() > deadline:
            break
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert 'iter_2.pth' in names(tmp_path / 'run') and 'iter_4.pth' not in names(tmp_path / 'run')
    assert torch.load(tmp_path / 'run/iter_2.pth', weights_only=True)['meta']['iter'] == 2
    assert (tmp_path / 'run/last_checkpoint').read_text() == str(tmp_path / 'run/iter_2.pth')
