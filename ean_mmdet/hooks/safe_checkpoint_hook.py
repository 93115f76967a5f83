"""A hook that writes checkpoints which any PyTorch loads safely, and that refuses foreign ones."""

from __future__ import annotations

from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import BaseLoop, Runner

from ..checkpoint import check_fit, to_plain
from ..errors import InputError


@HOOKS.register_module()
class SafeCheckpointHook(Hook):
    """Save checkpoints that ``torch.load`` takes in its safe mode, and check those that are loaded.

    On saving, mmengine's history buffers and NumPy numbers become tensors and plain numbers; ``ean_mmdet``'s loader
    turns them back. On loading, a checkpoint that shares no weight with the model, or that is to be resumed and has
    no training state, is an error and not a warning.
    """

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Make the checkpoint plain."""
        for part in ('meta', 'message_hub', 'optimizer', 'param_schedulers'):
            if part in checkpoint:
                checkpoint[part] = to_plain(checkpoint[part])

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Refuse a checkpoint that doesn't fit the model.

        Raises:
            InputError: No weight in common, or no training state where there must be some.
        """
        source = runner._load_from or 'the checkpoint'
        training = isinstance(runner._train_loop, BaseLoop)  # a config until training begins
        check_fit(runner.model, checkpoint, source, whole=runner._resume or not training)
        if not runner._resume:
            return
        lacking = [part for part in ('optimizer', 'meta') if not isinstance(checkpoint.get(part), dict)]
        lacking += [f'meta.{key}' for key in ('epoch', 'iter') if not lacking and key not in checkpoint['meta']]
        if lacking:
            raise InputError(
                f'{source} has weights but no training state (it lacks {", ".join(lacking)}), so training cannot '
                f'resume from it. To start from its weights, give it as load_from: --cfg-options load_from={source}'
            )
