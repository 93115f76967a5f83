"""A hook that sends a test's metrics and pictures where validation's go."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner

from ..datasets.pipeline import read_image


@HOOKS.register_module()
class TestVisualizationHook(Hook):
    """Hand a test's metrics, and pictures of its first images, to the visualizer's backends.

    MMEngine writes metrics of a test to a file and the terminal alone, so TensorBoard and its like don't show them.

    Args:
        images: How many of the images are drawn, ground truth beside predictions. Defaults to 8.
    """

    def __init__(self, images: int = 8) -> None:
        self.images = images
        self._drawn = 0

    def before_test(self, runner: Runner) -> None:
        """Begin with the first image."""
        self._drawn = 0
        runner.visualizer.dataset_meta = runner.test_dataloader.dataset.metainfo

    def after_test_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | None = None, outputs: Sequence | None = None
    ) -> None:
        """Draw the batch's images, as long as there are fewer than ``images``."""
        for sample in outputs or ():
            if self._drawn >= self.images or 'img_path' not in sample:
                return
            image, visualizer = read_image(Path(sample.img_path)), runner.visualizer
            draw = getattr(visualizer, 'visualize_cls', None)  # MMPretrain's
            if draw is not None:
                draw(image, sample, name=f'test/{self._drawn}', step=runner.iter)
            else:
                visualizer.add_datasample(f'test/{self._drawn}', image, data_sample=sample, step=runner.iter)
            self._drawn += 1

    def after_test_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        """Send the metrics, as ``test/NAME``."""
        scalars = {f'test/{name}': value for name, value in (metrics or {}).items() if isinstance(value, (int, float))}
        runner.visualizer.add_scalars(scalars, step=runner.iter)
