"""Schedules of a resumed run: whether the config's are the checkpoint's, and how a run follows the config's."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

from mmengine.optim import OptimWrapperDict
from mmengine.runner import IterBasedTrainLoop, Runner

# What a scheduler counts and remembers as it goes; all else is what it was built with.
_PROGRESS = {'optimizer', 'base_values', 'last_step', 'verbose'}


def schedule_changes(schedulers: Any, states: Any) -> str:
    """Say how the config's schedulers differ from a checkpoint's; empty where they are the same.

    Args:
        schedulers: The runner's, built.
        states: The checkpoint's states of its schedulers.
    """
    own, theirs = list(_flat(schedulers)), list(_flat(states))
    if not own or not theirs or not all(hasattr(scheduler, 'state_dict') for scheduler in own):
        return ''
    if len(own) != len(theirs):
        return f'it has {len(theirs)} schedulers, the config {len(own)}'
    changes = []
    for scheduler, state in zip(own, theirs):
        for key, value in vars(scheduler).items():
            fixed = key not in _PROGRESS and not key.startswith('_')
            if fixed and key in state and _plain(state[key]) != _plain(value):
                changes.append(f'{type(scheduler).__name__}.{key} is {state[key]} there and {value} in the config')
    return ', '.join(changes)


def catch_up(runner: Runner) -> None:
    """Step a resumed runner's new schedulers to where it is, as though it had had them from the beginning."""
    wrappers = runner.optim_wrapper
    for wrapper in wrappers.values() if isinstance(wrappers, OptimWrapperDict) else [wrappers]:
        for group in wrapper.param_groups:
            for key in [key for key in group if key.startswith('initial_')]:
                group[key.removeprefix('initial_')] = group[key]
    schedulers = list(_flat(runner.param_schedulers))
    by_iter = [scheduler for scheduler in schedulers if not scheduler.by_epoch]
    by_epoch = [scheduler for scheduler in schedulers if scheduler.by_epoch]
    loop = runner.train_loop
    length = loop.max_iters if isinstance(loop, IterBasedTrainLoop) else loop.max_iters // loop.max_epochs
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # of steps without the optimizer's
        for scheduler in schedulers:
            scheduler.last_step, scheduler._global_step = -1, -1
            scheduler.step()
        for iteration in range(1, loop.iter + 1):
            for scheduler in by_iter:
                scheduler.step()
            if iteration % length == 0:
                for scheduler in by_epoch:
                    scheduler.step()


def _flat(value: Any) -> Iterator[Any]:
    """The schedulers, or their states, of one optimizer or several."""
    if isinstance(value, dict) and 'last_step' not in value:
        value = [part for parts in value.values() for part in parts]
    yield from value if isinstance(value, (list, tuple)) else []


def _plain(value: Any) -> Any:
    return dict(value) if isinstance(value, dict) else list(value) if isinstance(value, (list, tuple)) else value
