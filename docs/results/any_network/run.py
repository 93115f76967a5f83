"""Attach attention to networks of torchvision, timm and MMPretrain, and see whether they compute what they did.

    python docs/results/any_network/run.py [--weights FOLDER] [--only TEXT]

For each network with random weights, and statistics of three batches: the largest change of the output after attaching
EAN, SE, ECA and CA, in shares of its largest value; whether a training step moves every α; and whether the network with
EAN, saved whole and loaded in a fresh process, computes the same. With --weights (a folder with resnet20_cifar10.pth,
resnet56_cifar10.pth and mobilenetv2_imagenet_features.pth) pretrained networks too. Prints a table in Markdown.
"""

from __future__ import annotations

import argparse
import copy
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import mmpretrain.models  # noqa: F401, which registers its backbones
import timm
import torch
import torchvision
from mmengine.registry import MODELS
from torch import nn
from torch.nn import functional

import ean_mmdet
from ean_mmdet.attention import EAN

TORCHVISION = (
    'resnet18', 'resnet50', 'resnext50_32x4d', 'wide_resnet50_2', 'regnet_y_400mf', 'mobilenet_v2',
    'mobilenet_v3_small', 'efficientnet_b0', 'efficientnet_v2_s', 'mnasnet0_5', 'shufflenet_v2_x1_0', 'densenet121',
    'vgg11', 'vgg11_bn',
)  # fmt: skip
TIMM = (
    'resnet50d', 'seresnet50', 'res2net50_26w_4s', 'resnest14d', 'resnetv2_50', 'regnety_004', 'mobilenetv2_100',
    'mobilenetv3_small_100', 'mobilenetv4_conv_small', 'efficientnet_b0', 'efficientnet_es', 'tf_efficientnetv2_b0',
    'rexnet_100', 'densenet121', 'cspresnet50', 'cspdarknet53', 'darknet53', 'dla34', 'hrnet_w18_small', 'skresnet18',
)  # fmt: skip
MMPRETRAIN = (
    dict(type='ResNet', depth=18), dict(type='ResNet', depth=50), dict(type='ResNeXt', depth=50),
    dict(type='Res2Net', depth=50), dict(type='RegNet', arch='regnetx_400mf'), dict(type='MobileNetV2'),
    dict(type='MobileNetV3', arch='small'), dict(type='EfficientNet', arch='b0'),
    dict(type='ShuffleNetV2', widen_factor=1.0), dict(type='DenseNet', arch='121'), dict(type='CSPDarkNet', depth=53),
    dict(type='VGG', depth=11, norm_cfg=dict(type='BN')),
)  # fmt: skip
REFUSED = ('convnext_tiny', 'vit_tiny_patch16_224')
ATTENTION = ('EAN', 'SE', 'ECA', 'CA')
LOAD = """
import sys, torch
if sys.argv[3]:  # where the classes of this script's own networks are
    sys.path.insert(0, sys.argv[3])
    vars(sys.modules['__main__']).update(vars(__import__('run')))
model, x = torch.load(sys.argv[1], weights_only=False)
torch.save(model(x), sys.argv[2])
"""


class CIFARBlock(nn.Module):
    """A basic block with the shortcut of He et al.: every second pixel, zeros for the channels that it lacks."""

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.stride, self.shortcut = stride, nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.bn2(self.conv2(functional.relu(self.bn1(self.conv1(x)))))
        padding = (y.shape[1] - x.shape[1]) // 2
        return functional.relu(y + functional.pad(x[:, :, :: self.stride, :: self.stride], (0,) * 4 + (padding,) * 2))


class CIFARResNet(nn.Module):
    """ResNet-20, 32, 44, 56 and 110 for CIFAR."""

    def __init__(self, depth: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16)
        channels = 16
        for stage, width in enumerate((16, 32, 64), start=1):
            blocks = []
            for block in range((depth - 2) // 6):
                blocks.append(CIFARBlock(channels, width, 2 if stage > 1 and block == 0 else 1))
                channels = width
            self.add_module(f'layer{stage}', nn.Sequential(*blocks))
        self.linear = nn.Linear(64, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = functional.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.linear(x.mean((2, 3)))


def pretrained(folder: Path) -> list[tuple[str, str, nn.Module]]:
    found: list[tuple[str, str, nn.Module]] = []
    for depth in (20, 56):
        model = CIFARResNet(depth)
        model.load_state_dict(torch.load(folder / f'resnet{depth}_cifar10.pth', weights_only=True), strict=False)
        found.append(('trained on CIFAR-10', f'ResNet-{depth}', model))
    model = torchvision.models.mobilenet_v2()
    weights = torch.load(folder / 'mobilenetv2_imagenet_features.pth', weights_only=True)
    model.load_state_dict(weights, strict=False)
    found.append(('trained on ImageNet', 'mobilenet_v2', model.features))
    return found


def networks(weights: Path | None, only: str):
    """Library, name and network of each whose library and name contain ``only``."""
    if weights is not None:
        yield from (found for found in pretrained(weights) if only in f'{found[0]} {found[1]}')
    builders: list[tuple[str, str, Callable[[], nn.Module]]] = []
    builders += [
        ('torchvision', name, partial(torchvision.models.get_model, name, weights=None)) for name in TORCHVISION
    ]
    builders += [('timm', name, partial(timm.create_model, name)) for name in TIMM]
    for config in MMPRETRAIN:
        name = ' '.join([config['type'], *(str(value) for key, value in config.items() if key in ('depth', 'arch'))])
        builders.append(('MMPretrain', name, partial(MODELS.build, {**config, 'type': f'mmpretrain.{config["type"]}'})))
    for library, name, build in builders:
        if only in f'{library} {name}':
            yield library, name, with_statistics(build())


def with_statistics(model: nn.Module) -> nn.Module:
    """Running statistics of three batches, and no norm at zero as some networks start with."""
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d) and not module.weight.any():
                module.weight.fill_(0.2)
        model.train()
        for _ in range(3):
            model(torch.randn(4, 3, 64, 64))
    model.eval()  # which returns nothing in MMPretrain
    return model


def outputs(model: nn.Module, x: torch.Tensor) -> list[torch.Tensor]:
    with torch.no_grad():
        y = model(x)
    return list(y) if isinstance(y, (tuple, list)) else [y]


def change(actual: list[torch.Tensor], expected: list[torch.Tensor]) -> float:
    return max(((a - e).abs().max() / e.abs().max()).item() for a, e in zip(actual, expected))


def attach(model: nn.Module, attention: str):
    """A ratio that leaves narrow maps a hidden channel."""
    options = dict(ratio=8) if attention in ('SE', 'CA') else {}
    return ean_mmdet.attach(model, attention, **options)


def learns(model: nn.Module, x: torch.Tensor) -> bool:
    model.train()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    y = model(x)
    sum(t.square().mean() for t in (y if isinstance(y, (tuple, list)) else [y])).backward()
    optimizer.step()
    return all(module.alpha.any().item() for module in model.modules() if isinstance(module, EAN))


def loads(model: nn.Module, x: torch.Tensor, folder: Path) -> bool:
    """Saved whole and loaded where nothing is imported but PyTorch."""
    torch.save((model, x), folder / 'model.pt')
    here = str(Path(__file__).parent) if type(model).__module__ == '__main__' else ''
    code = [sys.executable, '-W', 'ignore', '-c', LOAD]
    subprocess.run([*code, folder / 'model.pt', folder / 'y.pt', here], check=True)
    y = torch.load(folder / 'y.pt', weights_only=False)
    return change(list(y) if isinstance(y, (tuple, list)) else [y], outputs(model, x)) == 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--weights', type=Path)
    parser.add_argument('--only', default='')
    args = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(1)
    print('| from | network | positions | the first | EAN | change: EAN | SE | ECA | CA | learns | loads |')
    print('| --- | --- | ---: | --- | --- | ---: | ---: | ---: | ---: | --- | --- |')
    x, worst, count, start = torch.randn(2, 3, 64, 64), 0.0, 0, time.time()
    for source, name, plain in networks(args.weights, args.only):
        plain.eval()
        expected, cells = outputs(plain, x), []
        for attention in ATTENTION:
            model = copy.deepcopy(plain)
            try:
                report = attach(model, attention)
            except ValueError as error:
                cells.append(f'refused: {str(error)[:60]}')
                continue
            difference = change(outputs(model, x), expected)
            worst = max(worst, difference)
            cells.append(f'{difference:.0e}')
            if attention == 'EAN':
                first, groups = report.positions[0], sorted({p.note for p in report.positions})
                head = f'{len(report.positions)} | `{first.norm}` | {"; ".join(groups)}'
                with tempfile.TemporaryDirectory() as folder:
                    fresh = loads(model, x, Path(folder))
                    moved = learns(model, x)
        count += 1
        checks = f'{"yes" if moved else "NO"} | {"yes" if fresh else "NO"}'
        print(f'| {source} | {name} | {head} | {" | ".join(cells)} | {checks} |', flush=True)
    print(f'\n{count} networks, largest change {worst:.1e}; {time.time() - start:.0f} s', flush=True)
    for name in REFUSED:
        try:
            ean_mmdet.attach(timm.create_model(name), 'EAN')
        except ValueError as error:
            print(f'\n{name}: {error}')


if __name__ == '__main__':
    main()
