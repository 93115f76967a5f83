"""What ``import torch`` calls at its end (entry point of the group ``torch.backends``) where ean_mmdet is installed.

So ``mmcv.ops`` finds its operators also where it is imported before ``ean_mmdet``, as MMDetection's own scripts and
``from mmdet.apis import …`` do.
"""

from pathlib import Path
from runpy import run_path


def install() -> None:
    """See :mod:`ean_mmdet.mmcv_finder`, which isn't imported as such: ``import ean_mmdet`` takes seconds."""
    run_path(str(Path(__file__).with_name('ean_mmdet') / 'mmcv_finder.py'))['install']()
