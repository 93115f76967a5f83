"""Tiles of the Triton kernels.

A program takes a block of planes (one sample's one channel each) as a tile of planes by pixels. Planes that fit one
tile are read once. Larger ones are read twice, for the sums and for the result; the second read goes backwards, through
what the first left in the L2 cache. So that it finds it there, no more programs run at a time than have their planes in
the cache together, and each takes several blocks in turn. Where there are too few blocks of planes to fill the GPU,
programs share the pixels of a block, and the two passes become two kernels.
"""

from __future__ import annotations

import math
from functools import cache
from typing import NamedTuple

import torch
import triton

# A program's tile, in elements. Chosen from what the compiler says of registers and what that leaves of programs on a
# multiprocessor: enough to keep its loads under way, few enough that a plane's second read still finds it in L2.
WHOLE_TILE = 8192  # at most, of planes that it holds whole
TILE = 4096  # where it packs several planes, and in channels_last
LARGE_TILE = 4096  # where it passes over one large plane
MIN_CHANNELS, CHANNELS = 16, 64  # in channels_last, side by side in memory: 128 bytes in half precision
MAX_SPLITS = 32  # programs that share a block of planes at most


class Plan(NamedTuple):
    """Tiles that the kernels cut a feature map into."""

    planes: int
    """Planes of a tile."""
    pixels: int
    """Pixels of a tile."""
    blocks: int
    """Blocks of planes."""
    programs: int
    """Programs that take all blocks, in turns where there are fewer of them."""
    splits: int
    """Programs that share a block."""
    split_pixels: int
    """Pixels of each of them."""
    whole: bool
    """True where a tile holds complete planes."""
    align: int
    """Power of two that divides the size of the fastest axis."""
    warps: int
    """Warps of a program."""

    @property
    def turns(self) -> bool:
        """Tell whether a program takes more than one block."""
        return self.programs < self.blocks


@cache
def make_plan(shape: torch.Size, channels_last: bool, maps: int, programs: int, cached: int) -> Plan:
    """Cut a map of ``shape`` up for a GPU.

    Args:
        shape: (N, C, H, W).
        channels_last: The map's layout.
        maps: Maps that a tile holds, 1 forward and 2 backward.
        programs: Programs that keep the GPU busy.
        cached: Elements that its L2 cache holds for the second read.
    """
    samples, channels, height, width = shape
    pixels = height * width
    all_pixels = triton.next_power_of_2(pixels)
    all_planes = triton.next_power_of_2(channels if channels_last else samples * channels)
    least = min(MIN_CHANNELS, all_planes) if channels_last else 1

    def blocks(planes: int) -> int:
        return samples * triton.cdiv(channels, planes) if channels_last else triton.cdiv(samples * channels, planes)

    whole = all_pixels * least <= WHOLE_TILE // maps
    splits = 1
    if whole:
        tile = all_pixels
        planes = min(max(TILE // maps // tile, least), all_planes)
        while planes > least and blocks(planes) < programs:
            planes //= 2
    else:
        planes = min(CHANNELS, all_planes) if channels_last else 1
        tile = TILE // maps // planes if channels_last else LARGE_TILE
        # Where half the device would stay idle, enough parts to fill it twice, of four tiles at least.
        if 2 * blocks(planes) <= programs:
            splits = max(1, min(2 * programs // blocks(planes), pixels // (4 * tile), MAX_SPLITS))
    turns = 1
    if not whole and splits == 1:
        # z forward; the gradient, z and the output backward. A quarter of the programs at least, or too few loads are
        # under way.
        read = planes * pixels * (1 if maps == 1 else 3)
        turns = triton.cdiv(blocks(planes), max(cached // read, programs // 4, 1))
    split_pixels = triton.cdiv(triton.cdiv(pixels, tile), splits) * tile
    return Plan(
        planes=planes,
        pixels=tile,
        blocks=blocks(planes),
        programs=triton.cdiv(blocks(planes), turns),
        splits=triton.cdiv(pixels, split_pixels),
        split_pixels=split_pixels,
        whole=whole,
        align=math.gcd(channels if channels_last else pixels, 16),
        warps=min(max(planes * tile * maps // 512, 1), 32),
    )


@cache
def programs(device: torch.device) -> int:
    """Programs that keep a device busy: two on every multiprocessor."""
    return 2 * torch.cuda.get_device_properties(device).multi_processor_count if device.type == 'cuda' else 8


@cache
def cached_bytes(device: torch.device) -> int:
    """Bytes of a device's L2 cache that the planes under way may take: three quarters."""
    return torch.cuda.get_device_properties(device).L2_cache_size * 3 // 4 if device.type == 'cuda' else 1 << 20
