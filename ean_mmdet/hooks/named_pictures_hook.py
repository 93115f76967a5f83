"""MMDetection's hook that draws a test's images, with a picture of its own for each."""

from __future__ import annotations

import os
from collections.abc import Sequence

from mmdet.engine.hooks import DetVisualizationHook
from mmengine.registry import HOOKS
from mmengine.runner import Runner


@HOOKS.register_module()
class NamedPicturesHook(DetVisualizationHook):
    """MMDetection's ``DetVisualizationHook``, whose pictures keep the folders of their images.

    There, ``a/1.jpg`` and ``b/1.jpg`` are both drawn to ``1.jpg``.
    """

    test_out_dir: str | None

    def before_test(self, runner: Runner) -> None:
        """Find the folder that all images are below."""
        dataset = runner.test_dataloader.dataset
        folders = {os.path.dirname(dataset.get_data_info(index)['img_path']) for index in range(len(dataset))}
        self._root = os.path.commonpath(folders)
        self._pictures: str | None = self.test_out_dir

    def after_test_iter(self, runner: Runner, batch_idx: int, data_batch: dict, outputs: Sequence) -> None:
        """Draw a batch's images."""
        for sample in outputs:
            if self._pictures is not None:
                below = os.path.relpath(os.path.dirname(sample.img_path), self._root)
                self.test_out_dir = os.path.normpath(os.path.join(self._pictures, below))
            super().after_test_iter(runner, batch_idx, data_batch, [sample])
