"""Write CIFAR-10 images in an archive of JPEG or PNG files as one .npz, shrunk by averaging.

python docs/results/gates/prepare.py cifar10_jpeg.tar.gz CIFAR.npz [--side 16]
"""

from __future__ import annotations

import argparse
import io
import tarfile
from pathlib import Path, PurePath

import numpy as np
from PIL import Image


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('archive', type=Path, help='tar file with train/CLASS/*.jpg and test/CLASS/*.jpg')
    parser.add_argument('out', type=Path, help='file to write')
    parser.add_argument('--side', type=int, default=16, help='side of the images (default: %(default)s)')
    args = parser.parse_args()
    images: dict[str, list] = dict(train=[], test=[])
    classes: dict[str, list] = dict(train=[], test=[])
    with tarfile.open(args.archive) as archive:
        for member in archive:
            parts = PurePath(member.name).parts
            part = next((part for part in parts if part in images), None)
            if part is None or not member.isfile() or member.name[-4:] not in ('.jpg', '.png'):
                continue
            image = Image.open(io.BytesIO(archive.extractfile(member).read())).convert('RGB')
            images[part].append(np.asarray(image.resize((args.side, args.side), Image.BOX)).transpose(2, 0, 1))
            classes[part].append(parts[-2])
    names = sorted(set(classes['train']))
    arrays = {}
    for part in images:
        arrays[part] = np.stack(images[part])
        arrays[f'{part}_labels'] = np.array([names.index(name) for name in classes[part]])
    np.savez(args.out, **arrays)
    print(f'{args.out}: {len(images["train"])} training and {len(images["test"])} test images, classes {names}')


if __name__ == '__main__':
    main()
