"""A hook that writes checkpoints which any PyTorch loads safely, and that sees to what training starts from."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import wraps
from typing import Any

from mmengine.hooks import CheckpointHook, Hook
from mmengine.logging import print_log
from mmengine.optim import OptimWrapperDict
from mmengine.registry import HOOKS
from mmengine.runner import BaseLoop, IterBasedTrainLoop, Runner
from torch import Tensor

from ..checkpoint import adapt_weights, check_finite, first_not_finite, moment, note_loaded, to_plain, weights_in
from ..checkpoint.compatibility import unwrapped
from ..errors import InputError
from .frozen_attention import frozen_attention
from .schedules import catch_up, schedule_changes


@HOOKS.register_module()
class SafeCheckpointHook(Hook):
    """Save checkpoints that ``torch.load`` takes in its safe mode, and check those that are loaded.

    On saving, mmengine's history buffers and NumPy numbers become tensors and plain numbers; ``ean_mmdet``'s loader
    turns them back. On loading, a checkpoint that shares no weight with the model, or that is to be resumed and has
    no training state or weights that aren't finite, is an error and not a warning. Before training, a line names
    attention that can never learn, see :func:`.frozen_attention`. In training, weights that become infinite or NaN stop
    the run.

    Every runner has it once ``ean_mmdet`` is imported; it is listed in ``custom_hooks`` to set its arguments.

    Attributes:
        loaded: What was loaded last: ``checkpoint``, and the ``iteration`` and ``epoch`` that it is of.

    Args:
        keep_function: Whether a network with attention that the checkpoint lacks computes what it did without, see
            :func:`ean_mmdet.checkpoint.load_weights`. Defaults to True.
        new_schedule: Whether a resumed run follows the schedule of the config from where it is, as though it had
            had it from the beginning. mmengine restores the checkpoint's. Defaults to False.
    """

    priority = 'VERY_HIGH'  # EMAHook loads the checkpoint too, and has to find it checked

    def __init__(self, keep_function: bool = True, new_schedule: bool = False) -> None:
        self.keep_function = keep_function
        self.new_schedule = new_schedule
        self.loaded: dict[str, Any] = {}

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Make the checkpoint plain."""
        for part in ('meta', 'message_hub', 'optimizer', 'param_schedulers'):
            if part in checkpoint:
                checkpoint[part] = to_plain(checkpoint[part])

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Refuse a checkpoint that doesn't fit the model, and hand on what is to be loaded of another.

        Raises:
            InputError: No weight in common, or no training state or weights that aren't finite where it is to be
                resumed.
        """
        source = runner._load_from or 'the checkpoint'
        training = isinstance(runner._train_loop, BaseLoop)  # a config until training begins
        weights = weights_in(checkpoint, source)
        report = adapt_weights(
            runner.model, weights, source, complete=runner._resume or not training, keep_function=self.keep_function
        )
        note_loaded(unwrapped(runner.model), report.match.tensors)
        self.loaded = dict(checkpoint=str(source), **moment(checkpoint))
        if not runner._resume:
            checkpoint['state_dict'] = report.weights
            return
        check_finite(weights, source)
        if report.gates:
            raise InputError(
                f'{source} is of the network without attention, so training cannot resume from it. To start from its '
                f'weights, give it as load_from: --cfg-options load_from={source}'
            )
        lacking = [part for part in ('optimizer', 'meta') if not isinstance(checkpoint.get(part), dict)]
        lacking += [f'meta.{key}' for key in ('epoch', 'iter') if not lacking and key not in checkpoint['meta']]
        if lacking:
            raise InputError(
                f'{source} has weights but no training state (it lacks {", ".join(lacking)}), so training cannot '
                f'resume from it. To start from its weights, give it as load_from: --cfg-options load_from={source}'
            )
        checkpoint['meta'].pop('config', None)  # mmengine would run it, for a setting that nothing has any more
        if changes := schedule_changes(runner.param_schedulers, checkpoint.get('param_schedulers')):
            if self.new_schedule:
                checkpoint.pop('param_schedulers')
                print_log(f"The schedule is the config's from here on: {changes}", 'current')
            else:
                print_log(
                    f"The schedule goes on as {source} has it, not as the config does: {changes}. For the config's, as "
                    f"though the run had had it from the beginning: custom_hooks=[dict(type='SafeCheckpointHook', "
                    f'new_schedule=True)]',
                    'current',
                    30,
                )

    def before_train(self, runner: Runner) -> None:
        """Say what of the model can never learn, and where nothing is left to train."""
        if runner._resume and self.new_schedule:
            catch_up(runner)
        loop = runner.train_loop
        if isinstance(loop, IterBasedTrainLoop):
            done, total, key = loop.iter, loop.max_iters, 'max_iters'
        else:
            done, total, key = loop.epoch, loop.max_epochs, 'max_epochs'
        if runner._resume and done >= total:
            text = f'Nothing left to train: the run is at {done}, and train_cfg.{key} is {total}. To train on, set more'
            print_log(text, 'current', 30)
            return
        line = frozen_attention(unwrapped(runner.model), _groups(runner.optim_wrapper))
        if line:
            print_log(line, 'current', 30)

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: dict | None = None
    ) -> None:
        """Stop where the loss and the weights aren't finite any more.

        Raises:
            InputError: So it is.
        """
        loss = (outputs or {}).get('loss')
        loss = float(loss.detach()) if isinstance(loss, Tensor) else loss
        if loss is None or math.isfinite(loss):
            return
        key = first_not_finite(unwrapped(runner.model).state_dict())
        if key is None:  # as with mixed precision, whose scaler leaves such a step out
            print_log(f'The loss of iteration {runner.iter + 1} is {loss}; the weights are finite', 'current', 30)
            return
        raise InputError(
            f'the loss of iteration {runner.iter + 1} is {float(loss)}, and so are weights ({key}): training stops. '
            f'Likely causes: a learning rate that is too high or has no warm-up (optim_wrapper.optimizer.lr, '
            f'param_scheduler), gradients that are not clipped (optim_wrapper.clip_grad), half precision, or boxes '
            f'without an area (tools/check_data.py). Checkpoints from before are intact'
        )


def _groups(wrapper: Any) -> Iterator[dict]:
    for part in wrapper.values() if isinstance(wrapper, OptimWrapperDict) else [wrapper]:
        yield from part.param_groups


def install_hooks() -> None:
    """Have every runner, whoever builds it and whatever the config, load and save as this package does.

    mmengine's ``CheckpointHook`` becomes ``AtomicCheckpointHook``, and ``SafeCheckpointHook`` is there.
    """
    original = Runner.register_hooks
    if hasattr(original, '__wrapped__'):
        return

    @wraps(original)
    def register_hooks(runner: Runner, default_hooks: dict | None = None, custom_hooks: list | None = None) -> None:
        hooks = dict(default_hooks or {})
        checkpoint = hooks.get('checkpoint', dict(type='CheckpointHook'))
        if isinstance(checkpoint, dict) and checkpoint.get('type') in ('CheckpointHook', CheckpointHook):
            hooks['checkpoint'] = {**checkpoint, 'type': 'AtomicCheckpointHook'}
        original(runner, hooks, custom_hooks)
        if not any(isinstance(hook, SafeCheckpointHook) for hook in runner.hooks):
            runner.register_hook(SafeCheckpointHook())

    Runner.register_hooks = register_hooks  # type: ignore[method-assign]
