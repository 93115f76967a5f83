"""One process of a group that adds a tensor up, as distributed training does with its gradients.

A script of its own, with PyTorch alone: ``python all_reduce.py RANK WORLD_SIZE FILE``. The first process prints the
backend and the seconds of one sum of 64 MB.
"""

from __future__ import annotations

import sys
import time

import torch
import torch.distributed as dist

NUMBERS = 16 << 20


def main(rank: int, world_size: int, file: str) -> None:
    """Take part in the all-reduce as the process ``rank`` of ``world_size``."""
    gpus = torch.cuda.is_available()
    backend = 'nccl' if gpus and dist.is_nccl_available() else 'gloo'
    device = torch.device('cuda', rank) if backend == 'nccl' else torch.device('cpu')
    if backend == 'nccl':
        torch.cuda.set_device(device)
    dist.init_process_group(backend, init_method=f'file://{file}', rank=rank, world_size=world_size)
    seconds = 0.0
    for _ in range(2):  # the first one sets up connections
        tensor = torch.full((NUMBERS,), float(rank + 1), device=device)
        dist.barrier()
        start = time.perf_counter()
        dist.all_reduce(tensor)
        total = tensor.sum().item()
        seconds = time.perf_counter() - start
        expected = world_size * (world_size + 1) / 2
        if abs(total / NUMBERS - expected) > 1e-3 * expected:
            raise SystemExit(f'the sum over {world_size} processes is {total / NUMBERS:g}, and should be {expected:g}')
    if rank == 0:
        print(backend, seconds, flush=True)
    dist.barrier()
    dist.destroy_process_group()


if __name__ == '__main__':
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
