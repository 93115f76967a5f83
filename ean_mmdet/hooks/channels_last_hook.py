"""A hook that lets a network compute on pixels' channels side by side."""

from __future__ import annotations

import torch
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.registry import HOOKS
from mmengine.runner import Runner


@HOOKS.register_module()
class ChannelsLastHook(Hook):
    """Put the model's weights into ``torch.channels_last`` before a run.

    Convolutions then compute in that layout and hand it on, whatever the layout of the images. Results, keys and
    checkpoints are as before; depthwise convolutions on a CPU and tensor cores on a GPU are faster.
    """

    def before_run(self, runner: Runner) -> None:
        """Convert the model in place."""
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        model.to(memory_format=torch.channels_last)
