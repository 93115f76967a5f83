"""A hook that shows what training starts from."""

from __future__ import annotations

from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner


@HOOKS.register_module()
class ValidateFirstHook(Hook):
    """Validate before the first step, so that the log's step 0 says what the initial weights are worth.

    A resumed run doesn't start, so it isn't validated.
    """

    priority = 'LOWEST'  # after the checkpoint hook, which sets up saving the best

    def before_train(self, runner: Runner) -> None:
        """Validate, unless training goes on from a later step."""
        if runner.iter == 0 and runner.val_loop is not None:
            runner.val_loop.run()
