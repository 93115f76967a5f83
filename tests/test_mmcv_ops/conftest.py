"""mmcv's own Python files on the operators of ean_mmdet, also where mmcv is compiled."""

import importlib
import pkgutil

import mmcv.ops
import pytest

from ean_mmdet import mmcv_ops

MODULES = [importlib.import_module(f'mmcv.ops.{module.name}') for module in pkgutil.iter_modules(mmcv.ops.__path__)]
WITH_OPERATORS = [module for module in MODULES if hasattr(module, 'ext_module')]


@pytest.fixture
def without_compiler(monkeypatch):
    """mmcv's functions call the operators of ean_mmdet."""
    for module in WITH_OPERATORS:
        monkeypatch.setattr(module, 'ext_module', mmcv_ops)
