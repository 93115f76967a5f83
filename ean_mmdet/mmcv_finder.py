"""Finder of ``mmcv._ext``, mmcv's compiled operators, where nobody compiled it: in :mod:`ean_mmdet.mmcv_ops`.

Standard library alone, as it also runs at the end of ``import torch`` (``ean_mmdet_autoload.py``).
"""

import pkgutil
import sys
from importlib.machinery import ModuleSpec
from importlib.util import find_spec, spec_from_file_location
from pathlib import Path

FOLDER = Path(__file__).parent / 'mmcv_ops'


class MMCVFinder:
    """Finds ``mmcv._ext`` in this package. Python asks it last, so that a compiled one is never shadowed."""

    @staticmethod
    def find_spec(name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        """Find ``mmcv._ext``, and nothing else."""
        if name != 'mmcv._ext':
            return None
        # Under mmcv's name and not ours: `mmdet`, half imported, may be asking, and `ean_mmdet` imports it.
        return spec_from_file_location(name, FOLDER / '__init__.py', submodule_search_locations=[str(FOLDER)])


def find_loader(name: str) -> object:
    """Return the loader of a module or None, as ``pkgutil.find_loader`` did."""
    spec = find_spec(name)
    return spec and spec.loader


def install() -> None:
    """Let ``mmcv.ops`` find its operators here where it has none compiled. Nothing is imported before it asks."""
    if MMCVFinder not in sys.meta_path:
        sys.meta_path.append(MMCVFinder)
    # Gone in Python 3.14; mmengine 0.10 asks by it for mmcv._ext as it builds an optimizer.
    if not hasattr(pkgutil, 'find_loader'):
        pkgutil.find_loader = find_loader  # type: ignore
