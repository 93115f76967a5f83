"""What EAN attached to torchvision's networks costs beside the plain ones: bytes kept for the gradient, and time.

python docs/results/any_network/cost.py [--threads 2] [--repeat 7]
"""

from __future__ import annotations

import argparse
import copy
import statistics
import time

import torch
import torchvision
from torch import nn

import ean_mmdet


def kept(model: nn.Module, x: torch.Tensor) -> int:
    """Bytes of feature maps that a training step keeps for its gradient, each storage once."""
    seen: dict[int, int] = {}
    own = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    alive = []

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if tensor.dim() == 4 and storage.data_ptr() not in own:
            alive.append(tensor)  # so that no address is used twice
            seen[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        model(x).sum().backward()
    return sum(seen.values())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--threads', type=int, default=2)
    parser.add_argument('--repeat', type=int, default=7)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    print('| network | positions | bytes kept | inference | training step |')
    print('| --- | ---: | ---: | ---: | ---: |')
    for name in ('resnet50', 'mobilenet_v2'):
        torch.manual_seed(0)
        plain = torchvision.models.get_model(name, weights=None)
        model = copy.deepcopy(plain)
        places = ean_mmdet.attach(model, 'EAN').positions
        x = torch.randn(4, 3, 224, 224)
        share = kept(model.train(), x) / kept(plain.train(), x)
        times: dict[tuple[str, nn.Module], list[float]] = {}
        for _ in range(args.repeat + 1):
            for network in (plain, model):
                start = time.perf_counter()
                with torch.no_grad():
                    network.eval()(x)
                middle = time.perf_counter()
                network.train()(x).sum().backward()
                end = time.perf_counter()
                times.setdefault(('inference', network), []).append(middle - start)
                times.setdefault(('step', network), []).append(end - middle)
        ratios = [
            statistics.median(times[kind, model][1:]) / statistics.median(times[kind, plain][1:])
            for kind in ('inference', 'step')
        ]
        print(f'| {name} | {len(places)} | {share:.3f} | {ratios[0]:.2f} | {ratios[1]:.2f} |', flush=True)


if __name__ == '__main__':
    main()
