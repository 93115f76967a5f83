"""What the modules are made of: MMEngine's base and registry where it is installed, PyTorch alone where it isn't."""

from __future__ import annotations

from importlib.util import find_spec

from torch import nn

if find_spec('mmengine') is not None:
    from mmengine.model import BaseModule
    from mmengine.registry import MODELS

    register = MODELS.register_module()
else:

    class BaseModule(nn.Module):  # type: ignore[no-redef]
        """A module that takes MMEngine's ``init_cfg``, which nobody reads here."""

        def __init__(self, init_cfg: dict | list[dict] | None = None) -> None:
            super().__init__()
            self.init_cfg = init_cfg

    def register(module: type) -> type:
        """There is no registry to register in."""
        return module


__all__ = ['BaseModule', 'register']
