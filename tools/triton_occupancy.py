"""Compile the Triton kernels, without a GPU, and print registers, spills and occupancy as a Markdown table."""

import argparse

import torch

from ean_mmdet.analysis.triton_occupancy import SHARED, compile_kernels, missing

MAPS = ((2, 256, 200, 336), (2, 2048, 25, 42))  # of ResNet-50 at 800 × 1344
CASES = (('float32', 'contiguous'), ('bfloat16', 'channels_last'))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--capability', type=int, choices=SHARED, default=90, help='compute capability (default: 90)')
    args = parser.parse_args()
    if reason := missing():
        parser.error(reason)
    print('| map | kernel | registers | bytes spilled | threads a program | programs a multiprocessor | occupancy |')
    print('| --- | --- | ---: | ---: | ---: | ---: | ---: |')
    for dtype, layout in CASES:
        for shape in MAPS:
            for kernel in compile_kernels(args.capability, shape, getattr(torch, dtype), layout == 'channels_last'):
                print(
                    f'| {"×".join(map(str, shape))}, {dtype}, {layout} | {kernel.name} | {kernel.registers} | '
                    f'{kernel.spilled} | {kernel.threads} | {kernel.programs} | {kernel.occupancy:.0%} |'
                )


if __name__ == '__main__':
    main()
