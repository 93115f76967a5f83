"""Show registers, occupancy and memory traffic of the Triton kernels, without a GPU, as Markdown tables."""

import argparse

import torch

from ean_mmdet.analysis.triton_occupancy import SHARED, compile_kernels, missing, traffic

MAPS = ((2, 256, 200, 336), (2, 2048, 25, 42))  # of ResNet-50 at 800 × 1344
# of its stages at 800 × 1216
TRAFFIC = ((2, 256, 200, 304), (2, 512, 100, 152), (2, 1024, 50, 76), (2, 2048, 25, 38))
CASES = (('float32', 'contiguous'), ('bfloat16', 'channels_last'))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--capability', type=int, choices=SHARED, default=90, help='compute capability (default: 90)')
    parser.add_argument(
        '--traffic', action='store_true', help='the memory that the passes move on an H100, by the plan'
    )
    args = parser.parse_args()
    if args.traffic:
        print_traffic()
        return
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


def print_traffic() -> None:
    print('| map | pass | MB at least | MB by the plan | by the plan / plain tail |')
    print('| --- | --- | ---: | ---: | ---: |')
    for dtype, layout in CASES:
        for shape in TRAFFIC:
            kind = getattr(torch, dtype)
            size = torch.Size(shape).numel() * kind.itemsize / 1e6
            for moved in traffic(shape, kind, layout == 'channels_last'):
                print(
                    f'| {"×".join(map(str, shape))}, {dtype}, {layout} | {moved.name} | {moved.least * size:.0f} | '
                    f'{moved.planned * size:.0f} | {moved.planned / moved.plain:.2f} |'
                )


if __name__ == '__main__':
    main()
