"""Base class and registry: MMEngine's where it is installed, PyTorch alone where it isn't."""

from __future__ import annotations

from functools import wraps
from importlib.util import find_spec
from typing import Any, TypeVar

from torch import nn

MODULES: dict[str, type[nn.Module]] = {}  # every attention module of this package, by name
Class = TypeVar('Class', bound=type[nn.Module])

if find_spec('mmengine') is not None:
    from mmengine.model import BaseModule
    from mmengine.registry import MODELS

    _register_in_mmengine = MODELS.register_module()
else:

    class BaseModule(nn.Module):  # type: ignore[no-redef]
        """A module that takes MMEngine's ``init_cfg``, which nobody reads here."""

        def __init__(self, init_cfg: dict | list[dict] | None = None) -> None:
            super().__init__()
            self.init_cfg = init_cfg

    def _register_in_mmengine(module: type) -> type:
        return module


def register(module: Class) -> Class:
    """List an attention module in :data:`MODULES`, and in MMEngine's root registry where that is installed."""
    _register_in_mmengine(module=module)
    MODULES[module.__name__] = module
    return module


def _noting(register: Any) -> Any:
    @wraps(register)
    def noting(self, *args, **kwargs):
        self.hooked = True
        return register(self, *args, **kwargs)

    return noting


class NotesHooks(nn.Module):
    """A module that knows whether it has hooks, and so whether it can be computed together with others.

    Attributes:
        hooked: Whether it must be called as a module. The next ``train`` or ``eval`` sees that hooks were removed.
    """

    hooked = False
    register_forward_pre_hook = _noting(nn.Module.register_forward_pre_hook)
    register_forward_hook = _noting(nn.Module.register_forward_hook)
    register_full_backward_pre_hook = _noting(nn.Module.register_full_backward_pre_hook)
    register_full_backward_hook = _noting(nn.Module.register_full_backward_hook)

    def train(self, mode: bool = True) -> Any:
        """Training or evaluation mode."""
        hooks = self._forward_pre_hooks, self._forward_hooks, self._backward_pre_hooks, self._backward_hooks
        self.hooked = any(hooks) or 'forward' in self.__dict__
        return super().train(mode)


__all__ = ['MODULES', 'BaseModule', 'NotesHooks', 'register']
