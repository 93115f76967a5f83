"""Runs command lines of tools/ in processes of their own, forked from one that has imported the libraries already.

A tool is one to two seconds of work behind six of imports. Every run is a process with its own memory, files and exit
code; only the imports are shared.
"""

from __future__ import annotations

import json
import os
import resource
import runpy
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path

ROOT = Path(__file__).parents[1]
IMPORTS = 'matplotlib.pyplot, mmdet.apis, mmdet.datasets, mmdet.models, mmdet.evaluation, mmpretrain, ean_mmdet'


class ForkServer:
    """The process that has the imports. Close it, or use it in a ``with`` statement."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, '-W', 'ignore', __file__],
            cwd=ROOT,
            env={**os.environ, 'OMP_NUM_THREADS': '1', 'MPLBACKEND': 'agg', 'PYTHONPATH': str(ROOT)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(
        self, script: str | os.PathLike, *args: object, timeout: float = 600, file_size: int | None = None, **env: str
    ) -> subprocess.CompletedProcess:
        """Run a script, with its output captured.

        Args:
            script: Its path.
            *args: Its arguments.
            timeout: Seconds after which it is killed. Defaults to 600.
            file_size: Bytes that a file can grow to, as if the disk were full then. Defaults to None, any number.
            **env: Environment variables.

        Raises:
            subprocess.TimeoutExpired: It took longer than ``timeout`` seconds, and was killed.
        """
        with tempfile.TemporaryDirectory() as folder:
            command = [str(script), *map(str, args)]
            request = dict(command=command, env=env, timeout=timeout, file_size=file_size, folder=folder)
            print(json.dumps(request), file=self.process.stdin, flush=True)
            line = self.process.stdout.readline()
            if not line:
                raise RuntimeError(f'the fork server ended with {self.process.wait()}')
            out, err = (Path(folder, name).read_text(errors='replace') for name in ('out', 'err'))
        code = json.loads(line)
        if code is None:
            raise subprocess.TimeoutExpired(command, timeout, out, err)
        return subprocess.CompletedProcess(command, code, out, err)

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait(60)
        self.process.stdout.close()

    def __enter__(self) -> ForkServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _serve() -> None:
    answers = os.fdopen(os.dup(1), 'w')
    os.dup2(2, 1)  # what an import prints is no answer
    exec(f'import {IMPORTS}')
    _read_metafiles()
    for line in sys.stdin:
        request = json.loads(line)
        child = os.fork()
        if child == 0:
            _become(request)
        print(json.dumps(_wait(child, request['timeout'])), file=answers, flush=True)


def _read_metafiles() -> None:
    """Read what the tools' configs make MMEngine, and the check of their settings, read, before the first fork."""
    from ean_mmdet.engine import load_config
    from tests.external_configs import read_metafiles_once

    read_metafiles_once()
    for config in ('configs/faster_rcnn_r50_coco.py', 'configs/pretrain/r50_cifar10.py'):
        load_config(str(ROOT / config))


def _become(request: dict) -> None:
    """Turn into the tool."""
    os.setsid()
    for number, name in ((1, 'out'), (2, 'err')):
        file = os.open(os.path.join(request['folder'], name), os.O_WRONLY | os.O_CREAT)
        os.dup2(file, number)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.environ.update(request['env'])
    sys.argv = request['command']
    sys.path[0] = os.path.dirname(os.path.abspath(sys.argv[0]))
    sys.path[1:1] = filter(None, request['env'].get('PYTHONPATH', '').split(os.pathsep))
    if request['file_size']:
        resource.setrlimit(resource.RLIMIT_FSIZE, (request['file_size'], request['file_size']))
    code = 1
    try:
        runpy.run_path(sys.argv[0], run_name='__main__')
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _wait(child: int, timeout: float) -> int | None:
    """The exit code, negative for a signal; None where it had to be killed."""
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return None


if __name__ == '__main__':
    _serve()
