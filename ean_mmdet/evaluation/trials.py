"""The runs of a comparison: what they are, how far they are, and how they are run."""

from __future__ import annotations

import copy
import hashlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from mmengine.config import Config

from ..datasets import split_training_data
from ..engine.settings import known_keys
from ..errors import InputError
from ..files import write_text
from .repeatable import make_repeatable
from .runs import flat_settings, read_run
from .variants import Variant

PACKAGE = Path(__file__).resolve().parents[1]
PACKAGES = ('torch', 'torchvision', 'numpy', 'mmengine', 'mmcv', 'mmdet', 'mmpretrain', 'timm')
# What doesn't change what a run comes to.
JUDGES = ('evaluation', 'analysis', 'deploy', 'search')
DATA = ('train_dataloader', 'test_dataloader', 'test_evaluator')
SCHEDULE = ('train_cfg', 'optim_wrapper', 'param_scheduler', 'auto_scale_lr', 'custom_hooks')


@dataclass
class Trial:
    """A training run of a comparison and its test.

    Attributes:
        variant: Name of the network.
        seed: Its seed.
        config: Its config.
        folder: Its work dir.
        rate: Learning rate that is tried; None in the comparison itself.
    """

    variant: str
    seed: int
    config: Config
    folder: Path
    rate: float | None = None

    @property
    def name(self) -> str:
        """Name in messages."""
        return f'{self.variant}, rate {self.rate:g}' if self.rate is not None else f'{self.variant}, seed {self.seed}'

    @property
    def done_file(self) -> Path:
        """File that says that it is done, and under which protocol."""
        return self.folder / 'done.json'

    @property
    def predictions(self) -> Path:
        """Its results on the test set."""
        return self.folder / 'predictions.json'

    @property
    def config_file(self) -> Path:
        """The config that it is run with."""
        return self.folder.with_name(f'{self.folder.name}.py')

    def done(self) -> dict | None:
        """Outcome; None where it isn't done."""
        return json.loads(self.done_file.read_text(encoding='utf-8')) if self.done_file.is_file() else None

    def share(self) -> float:
        """Progress of the training, from 0 to 1, by its log."""
        if self.done_file.is_file():
            return 1.0
        try:
            run = read_run(self.folder)
        except InputError:
            return 0.0
        return min(run.done(run.by_epoch) / run.planned, 1.0) if run.planned else 0.0


def make_trials(
    variants: Sequence[Variant], seeds: Sequence[int], folder: Path, rates: dict[str, float] | None = None
) -> list[Trial]:
    """The runs of a comparison, a seed after the other, so that whatever is there is whole.

    Args:
        variants: The networks.
        seeds: The seeds.
        folder: Folder of the comparison.
        rates: Learning rate of each network; None: the config's.
    """
    trials = []
    for seed in seeds:
        for variant in variants:
            config = copy.deepcopy(variant.config)
            if rates:
                config.optim_wrapper.optimizer.lr = rates[variant.name]
            trials.append(_trial(variant.name, seed, config, folder / variant.name / f'seed{seed}'))
    return trials


def make_pilots(variants: Sequence[Variant], rates: Sequence[float], folder: Path, seed: int = 100) -> list[Trial]:
    """The runs that a learning rate is chosen by: trained on nine tenths of the training data, judged on a tenth."""
    trials = []
    for variant in variants:
        for rate in rates:
            config = copy.deepcopy(variant.config)
            config.optim_wrapper.optimizer.lr = rate
            split_training_data(config, 0.1, seed)
            config.test_dataloader, config.test_evaluator = config.val_dataloader, config.val_evaluator
            trials.append(_trial(variant.name, seed, config, folder / 'rates' / f'{variant.name}_lr{rate:g}', rate))
    return trials


def _trial(variant: str, seed: int, config: Config, folder: Path, rate: float | None = None) -> Trial:
    # an augmentation in the main process would draw from what building the network has left
    make_repeatable(config, seed)
    imports = config.get('custom_imports') or dict(imports=[], allow_failed_imports=False)
    imports['imports'] = [*dict.fromkeys([*imports['imports'], 'ean_mmdet'])]
    config.custom_imports = imports
    config.work_dir = str(folder)
    for part in (config.model.backbone, config.model.backbone.get('backbone') or {}):
        start = part.get('init_cfg') or {}
        if isinstance(start.get('checkpoint'), str):
            start['checkpoint'] = start['checkpoint'].format(network=variant, seed=seed)
    # what the config's file calculates with isn't read any more
    config = Config({key: value for key, value in config.items() if key in known_keys()})
    return Trial(variant, seed, config, folder, rate)


def protocol(trial: Trial) -> dict[str, Any]:
    """Describe a run by its command: its network, data, schedule, versions of the libraries, and code."""
    return dict(
        data=_part(trial.config, DATA) | _files(trial.config),
        schedule=_part(trial.config, SCHEDULE),
        network=_part(trial.config, ('model', 'load_from')),
        versions=versions(),
        code=dict(ean_mmdet=code_digest()),
    )


def versions() -> dict[str, str]:
    """Versions of what a run depends on."""
    found = {'Python': '.'.join(map(str, sys.version_info[:2]))}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def code_digest() -> str:
    """A digest of the package's code, but for what judges runs."""
    digest = hashlib.sha256()
    for path in sorted(PACKAGE.rglob('*')):
        inside = path.relative_to(PACKAGE)
        if path.suffix in ('.py', '.cpp', '.h') and inside.parts[0] not in JUDGES:
            digest.update(str(inside).encode() + path.read_bytes())
    return digest.hexdigest()[:12]


def _part(config: Config, keys: Sequence[str]) -> dict[str, str]:
    sections = {key: config[key] for key in keys if config.get(key) is not None}
    return {key: str(value) for key, value in flat_settings(Config(sections).to_dict())}


def _files(config: Config) -> dict[str, str]:
    """A digest of each annotation file."""
    found = {}
    for name in ('train_dataloader', 'test_dataloader'):
        dataset = config[name].dataset
        while 'dataset' in dataset:
            dataset = dataset.dataset
        file = Path(dataset.get('data_root') or '', dataset.get('ann_file') or '')
        if file.is_file():
            found[f'{name}: {file.name}'] = hashlib.sha256(file.read_bytes()).hexdigest()[:12]
    return found


def check_protocols(trials: Sequence[Trial]) -> None:
    """See that runs which are done were of one protocol, that of now, which the command makes the same for all.

    Raises:
        InputError: One was of another; the message names it and what differs.
    """
    for trial in trials:
        done = trial.done()
        if done is None:
            continue
        now, then = json.loads(json.dumps(protocol(trial))), done['protocol']
        for part, values in now.items():
            old = then.get(part, {})
            other = sorted(key for key in values.keys() | old.keys() if values.get(key) != old.get(key))
            if other:
                changes = '; '.join(f'{key} was {old.get(key)}, is {values.get(key)}' for key in other[:3])
                raise InputError(
                    f'{trial.name} ({trial.folder}) is of another protocol, so it cannot stand in one table with the '
                    f'others: {part}: {changes[:600]}. Remove the folder to have it run again, or take another '
                    f'--work-dir'
                )


@dataclass(frozen=True)
class Launcher:
    """Launcher of runs.

    Attributes:
        kind: ``'none'``, ``'torchrun'`` or ``'slurm'``.
        jobs: How many at a time.
        gpus: Processes of a run, for torchrun and Slurm.
        partition: Of Slurm.
        tools: Folder of the tools.
    """

    kind: str
    jobs: int
    gpus: int
    partition: str
    tools: Path

    def commands(self, trial: Trial) -> list[list[str]]:
        """The training, and the test of its last checkpoint."""
        file, folder = str(trial.config_file), str(trial.folder)
        name = re.sub(r'\W+', '_', trial.name)
        starts = dict(
            none=([sys.executable, '-W', 'ignore', str(self.tools / 'train.py'), file],
                  [sys.executable, '-W', 'ignore', str(self.tools / 'test.py'), file]),
            torchrun=(['bash', str(self.tools / 'dist_train.sh'), file, str(self.gpus)],
                      ['bash', str(self.tools / 'dist_test.sh'), file, '{checkpoint}', str(self.gpus)]),
            slurm=(['bash', str(self.tools / 'slurm_train.sh'), self.partition, name, file, folder],
                   ['bash', str(self.tools / 'slurm_test.sh'), self.partition, name, file]),
        )  # fmt: skip
        train, test = starts[self.kind]
        if self.kind != 'slurm':
            train = [*train, '--work-dir', folder]
        if self.kind != 'torchrun':
            test = [*test, '{checkpoint}']
        out = ['--out', str(trial.predictions), '--work-dir', str(trial.folder / 'test')]
        return [[*train, '--resume'], [*test, *out]]


class Runner:
    """Runs trials, several at a time.

    Args:
        launcher: How.
        progress: Called every few seconds, and when a run begins and ends, with a line about that or None.
    """

    def __init__(self, launcher: Launcher, progress: Callable[[str | None], None]) -> None:
        self.launcher, self.progress = launcher, progress
        self.processes: set[subprocess.Popen] = set()
        self.stopped = threading.Event()
        self.failed: dict[str, Path] = {}

    def run(self, trials: Sequence[Trial]) -> None:
        """Run what isn't done; failures are kept in ``failed``."""
        with ThreadPoolExecutor(self.launcher.jobs) as pool:
            left = {pool.submit(self._run, trial) for trial in trials if not trial.done_file.is_file()}
            try:
                while left:
                    done, left = wait(left, 2, FIRST_COMPLETED)
                    for future in done:
                        future.result()
                    self.progress(None)
            except BaseException:
                self.stop()
                raise

    def stop(self) -> None:
        """End what is running; run again, it goes on from its last checkpoint."""
        self.stopped.set()
        for process in list(self.processes):
            try:
                os.killpg(process.pid, signal.SIGTERM)
                process.wait(10)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
            except ProcessLookupError:
                continue

    def _run(self, trial: Trial) -> None:
        if self.stopped.is_set():
            return
        begin, goes_on = time.time(), trial.share() > 0
        log = trial.folder / 'log.txt'
        trial.folder.mkdir(parents=True, exist_ok=True)
        trial.config.dump(trial.config_file)
        self.progress(f'{trial.name}: {"goes on" if goes_on else "begins"}')
        for command in self.launcher.commands(trial):
            code = self._call(command, trial, log)
            if self.stopped.is_set():
                return
            if code:
                self.failed[trial.name] = log
                self.progress(f'{trial.name}: failed, see {log}')
                return
        metrics = json.loads(trial.predictions.with_suffix('.info.json').read_text(encoding='utf-8'))['metrics']
        seconds = None if goes_on else time.time() - begin  # what was before a stop isn't known
        done = dict(variant=trial.variant, seed=trial.seed, metrics=metrics, protocol=protocol(trial), seconds=seconds)
        write_text(trial.done_file, json.dumps(done, indent=1))
        self.progress(f'{trial.name}: done')

    def _call(self, command: list[str], trial: Trial, log: Path) -> int:
        from ..checkpoint import latest_checkpoint

        if '{checkpoint}' in command:
            try:
                checkpoint = latest_checkpoint(trial.folder)
                if checkpoint is None:
                    raise InputError(f'{trial.folder} has no checkpoint: does the config have a CheckpointHook?')
            except InputError as error:
                with log.open('a', encoding='utf-8') as file:
                    print('error:', error, file=file)
                return 1
            command = [checkpoint if part == '{checkpoint}' else part for part in command]
        environment = {
            'OMP_NUM_THREADS': str(max(1, (os.cpu_count() or 1) // self.launcher.jobs)),
            **dict.fromkeys(('PORT', 'MASTER_PORT'), free_port()),
            **os.environ,
            'VIRTUAL_ENV': sys.prefix,  # the launchers take its Python
        }
        with log.open('a', encoding='utf-8') as file:
            print('$', ' '.join(command), file=file, flush=True)
            process = subprocess.Popen(
                command, stdout=file, stderr=subprocess.STDOUT, env=environment, start_new_session=True
            )
            self.processes.add(process)
            code = process.wait()
            self.processes.discard(process)
        return code


def free_port() -> str:
    """Find a port that nothing listens on."""
    with socket.create_server(('', 0)) as server:
        return str(server.getsockname()[1])
