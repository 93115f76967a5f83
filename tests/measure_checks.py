"""Times the check of many images, the first time and the second, and a checkpoint's checksums:
python -m tests.measure_checks FOLDER_OF_JPEGS"""

import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

import torch
from torchvision.models import resnet50

from ean_mmdet.checkpoint.safe_load import check_archive
from ean_mmdet.datasets.images import inspect_images


def seconds(work, *args, **kwargs) -> float:
    """How long a call takes."""
    start = time.perf_counter()
    work(*args, **kwargs)
    return time.perf_counter() - start


def main() -> None:
    files = sorted(Path(sys.argv[1]).rglob('*.jpg'))
    with tempfile.TemporaryDirectory() as folder:
        os.environ['EAN_CACHE'] = folder
        first, second = seconds(inspect_images, files), seconds(inspect_images, files)
        print(f'{len(files)} images: {first:.1f} s the first time, {second:.1f} s the second')
        model, path = resnet50(), Path(folder, 'resnet50.pth')
        optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
        model(torch.randn(2, 3, 64, 64)).sum().backward()
        optimizer.step()
        torch.save(dict(state_dict=model.state_dict(), optimizer=optimizer.state_dict()), path)
        loads = [seconds(torch.load, path, weights_only=True) for _ in range(7)]
        sums = [seconds(check_archive, str(path)) for _ in range(7)]
        print(
            f'{path.stat().st_size / 1e6:.0f} MB: loading {statistics.median(loads):.2f} s, '
            f'checksums {statistics.median(sums):.2f} s'
        )


if __name__ == '__main__':
    main()
