"""Faster R-CNN with mmcv's compiled operators and with ean_mmdet's, in turns: times of both and the ratio of medians.

    python -W ignore tests/supported/mmcv_speed.py [--size 192 320] [--repeat 5]

Needs a compiled mmcv. A training step of two images (forward and backward) and a prediction of one, on the CPU.
"""

import argparse
import importlib
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import mmdet
import torch
from mmdet.apis import init_detector
from mmdet.testing import demo_mm_inputs

from ean_mmdet import mmcv_ops
from tests.test_mmcv_ops.conftest import WITH_OPERATORS

CONFIG = Path(mmdet.__file__).parent / '.mim/configs/faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py'


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__.split('\n\n')[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument('--size', nargs=2, type=int, default=[192, 320], help='height and width of the images')
    parser.add_argument('--repeat', type=int, default=5, help='times that each is measured')
    args = parser.parse_args()
    operators = {'compiled': importlib.import_module('mmcv._ext'), 'ean_mmdet': mmcv_ops}
    torch.manual_seed(0)
    model = init_detector(str(CONFIG), device='cpu', cfg_options={'model.backbone.init_cfg': None})
    shape = (3, *args.size)

    def step() -> None:
        model.train()
        batch = model.data_preprocessor(demo_mm_inputs(2, shape, num_items=[8, 8], use_box_type=True), True)
        loss, _ = model.parse_losses(model(**batch, mode='loss'))
        loss.backward()

    def predict() -> None:
        model.eval()
        with torch.no_grad():
            model(**model.data_preprocessor(demo_mm_inputs(1, shape), False), mode='predict')

    def seconds(run: Callable[[], None]) -> float:
        torch.manual_seed(0)
        start = time.perf_counter()
        run()
        return time.perf_counter() - start

    for name, run in (('training step', step), ('prediction', predict)):
        times: dict[str, list[float]] = {kind: [] for kind in operators}
        for repeat in range(args.repeat + 1):
            for kind, extension in operators.items():
                for module in WITH_OPERATORS:
                    module.ext_module = extension
                elapsed = seconds(run)
                if repeat:  # the first is to warm up
                    times[kind].append(elapsed)
        medians = {kind: statistics.median(values) for kind, values in times.items()}
        ratio = medians['ean_mmdet'] / medians['compiled']
        print(
            f'{name}: compiled {medians["compiled"]:.3f} s, ean_mmdet {medians["ean_mmdet"]:.3f} s, ratio {ratio:.3f}'
        )


if __name__ == '__main__':
    main()
