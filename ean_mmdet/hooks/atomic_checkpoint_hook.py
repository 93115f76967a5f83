"""mmengine's checkpoint hook, with which no moment is one at which a kill or a full disk loses a checkpoint."""

from __future__ import annotations

import contextlib
import os
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from mmengine.dist import is_main_process
from mmengine.hooks import CheckpointHook
from mmengine.model import is_model_wrapper
from mmengine.registry import HOOKS
from mmengine.runner import Runner

from ..checkpoint import first_not_finite
from ..errors import InputError
from ..files import write_text

ON_ERROR = ('stop', 'continue')


class _Later:
    """A file backend whose removals wait."""

    def __init__(self, backend: Any) -> None:
        self._backend = backend
        self._removals: list[tuple[Callable, str]] = []

    def __getattr__(self, name: str) -> object:
        return getattr(self._backend, name)

    def remove(self, path: str) -> None:
        self._removals.append((self._backend.remove, path))

    def rmtree(self, path: str) -> None:
        self._removals.append((self._backend.rmtree, path))

    def carry_out(self) -> None:
        for remove, path in self._removals:
            remove(path)


@HOOKS.register_module()
class AtomicCheckpointHook(CheckpointHook):
    """Save checkpoints whole or not at all, and delete older ones only after that.

    mmengine 0.10 deletes the oldest of ``max_keep_ckpts``, and the best so far, before it writes the new one in place.
    Here a checkpoint is written beside its name, flushed to the disk and renamed; then older ones go; then
    ``last_checkpoint`` is replaced the same way.

    Args:
        on_error: What to do where a checkpoint can't be written, as on a full disk: ``'stop'`` the run with an error,
            or ``'continue'`` and try again at the next one. Older checkpoints stay in both cases.
            Defaults to ``'stop'``.
        **kwargs: Those of mmengine's ``CheckpointHook``.

    Raises:
        ValueError: ``on_error`` is unknown.
    """

    file_backend: Any  # MMEngine's

    def __init__(self, *args, on_error: str = 'stop', **kwargs) -> None:
        if on_error not in ON_ERROR:
            raise ValueError(f'AtomicCheckpointHook: on_error must be one of {", ".join(ON_ERROR)}, got {on_error!r}')
        super().__init__(*args, **kwargs)
        self.on_error = on_error

    def _save_checkpoint_with_step(self, runner: Runner, step: int, meta: dict) -> None:
        kept, outdated = list(getattr(self, 'keep_ckpt_ids', ())), None
        if self.max_keep_ckpts > 0 and kept[-1:] != [step]:
            outdated = kept.pop(0) if len(kept) == self.max_keep_ckpts else None
            kept.append(step)
        before = {key: runner.message_hub.runtime_info.get(key) for key in ('keep_ckpt_ids', 'last_ckpt')}
        name = self.filename_tmpl.format(step)
        path = self.file_backend.join_path(self.out_dir, name)
        runner.message_hub.update_info('keep_ckpt_ids', kept)
        runner.message_hub.update_info('last_ckpt', path)
        arguments = dict(
            save_optimizer=self.save_optimizer, save_param_scheduler=self.save_param_scheduler, meta=meta,
            by_epoch=self.by_epoch, backend_args=self.backend_args, **self.args,
        )  # fmt: skip
        with self._written(runner) as written:
            runner.save_checkpoint(self.out_dir, name, self.file_client_args, **arguments)
            if is_main_process():
                write_text(Path(runner.work_dir, 'last_checkpoint'), path)
        if not written:
            runner.message_hub.runtime_info.update({key: value for key, value in before.items() if value is not None})
            return
        self.last_ckpt = path
        if self.max_keep_ckpts > 0:
            self.keep_ckpt_ids = deque(kept, self.max_keep_ckpts)
        if outdated is not None and is_main_process():
            old = self.file_backend.join_path(self.out_dir, self.filename_tmpl.format(outdated))
            if self.file_backend.isfile(old):
                self.file_backend.remove(old)

    def _save_best_checkpoint(self, runner: Runner, metrics: dict) -> None:
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        if self.save_best and (key := first_not_finite(model.state_dict())) is not None:
            runner.logger.error(f'weights are infinite or NaN ({key}), so that this checkpoint is not kept as the best')
            return
        backend, self.file_backend = self.file_backend, _Later(self.file_backend)
        try:
            with self._written(runner) as written:
                super()._save_best_checkpoint(runner, metrics)
            if written:
                self.file_backend.carry_out()
        finally:
            self.file_backend = backend

    @contextlib.contextmanager
    def _written(self, runner: Runner) -> Iterator[list[bool]]:
        """Have the runner save in two steps, and tell, when it is done, whether that went well."""
        outer = 'save_checkpoint' in vars(runner)  # the best is saved, and the last once more with it
        original = runner.save_checkpoint
        written: list[bool] = []

        def save(out_dir: str, filename: str, *args, **kwargs) -> None:
            if outer or not is_main_process() or '://' in str(out_dir):
                original(out_dir, filename, *args, **kwargs)
                return
            partial = Path(out_dir, f'.{filename}.partial')
            try:
                original(out_dir, partial.name, *args, **kwargs)
                with open(partial, 'rb') as file:
                    os.fsync(file.fileno())
                os.replace(partial, Path(out_dir, filename))
            finally:
                partial.unlink(missing_ok=True)

        runner.save_checkpoint = save
        try:
            yield written
            written.append(True)
        except (OSError, InputError) as error:
            message = f'could not write a checkpoint to {self.out_dir}: {error}. The older ones are intact'
            if self.on_error == 'stop':
                raise InputError(
                    f"{message}. Make room and resume; default_hooks.checkpoint.on_error='continue' trains on instead"
                ) from error
            runner.logger.error(f'{message}; training goes on')
        finally:
            if outer:
                runner.save_checkpoint = original
            else:
                del runner.save_checkpoint  # the class's method again
